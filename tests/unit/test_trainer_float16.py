"""A model in float16: which part of its graph, what is on its card, and when it is refused."""

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from click.testing import Result
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from tests import brightness_model
from tests.ledger import card
from tests.trainer_half import halve_shipped
from trainer.data.manifest import Manifest
from trainer.evaluation.agreement import LoadedSplit, Predictions, differences, predict_split, require_near
from trainer.export.card import write
from trainer.export.float16 import convert
from trainer.export.float16_graph import halve
from trainer.progress import silent
from worker.errors import BadSetting, ModelRefused
from worker.inference.card import ModelCard
from worker.inference.estimate import Estimate
from worker.inference.model import OnnxModel, open_model, replay_goldens
from worker.inference.prediction import Prediction
from worker.inference.site_point import SitePoint
from worker.settings import DEFAULT_MODEL


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """The shipped model in float16, on the CPU; and what the verb said."""
    out = tmp_path_factory.mktemp("half") / "half.onnx"
    return out, halve_shipped(out, "--provider", "cpu")


@pytest.fixture(scope="module")
def shipped() -> OnnxModel:
    return open_model(DEFAULT_MODEL, "cpu")


def test_it_is_a_file_of_its_own_with_a_card_of_its_own(made: tuple[Path, Result], shipped: OnnxModel) -> None:
    path, said = made
    assert said.exit_code == 0, said.output
    model = open_model(path, "cpu")  # the tensor contract holds
    replay_goldens(model)
    old, new = shipped.card, model.card
    assert path.stat().st_size < 0.6 * DEFAULT_MODEL.stat().st_size
    assert new.name == f"{old.name}_fp16"
    assert new.versions["made from"] == shipped.digest == hashlib.sha256(DEFAULT_MODEL.read_bytes()).hexdigest()
    assert (new.operating_point.threshold, new.operating_point.rule) == (0.4971, "fixed at 0.4971")
    assert new.metrics["validation_auc"].n == new.metrics["test_auc"].n == 4
    assert new.reference is not None
    assert list(new.reference.n) == [2, 2]
    assert [golden.content for golden in new.goldens] == [golden.content for golden in old.goldens]
    assert [golden.probability for golden in new.goldens] != [golden.probability for golden in old.goldens]
    assert (new.population, new.preprocessing, new.bias) == (old.population, old.preprocessing, old.bias)
    assert not list(path.parent.glob("*.part"))


def test_it_tells_how_far_it_moved(made: tuple[Path, Result]) -> None:
    path, said = made
    told = json.loads(said.stdout)
    assert told["model_digest"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert {split: each["images"] for split, each in told["moved"].items()} == {"validation": 4, "test": 4}
    assert all(0 < each["probability_largest"] < 0.02 and each["flips"] == 0 for each in told["moved"].values())


def test_only_the_convolutions_are_in_float16(made: tuple[Path, Result]) -> None:
    before, after = ({w.name: w for w in onnx.load(path).graph.initializer} for path in (DEFAULT_MODEL, made[0]))
    widths = {"half/" + name: after["half/" + name].data_type for name in before if "half/" + name in after}
    assert len(widths) > 100
    assert {widths[name] for name in widths if len(after[name].dims) == 4} == {TensorProto.FLOAT16}
    heads = [name for name in before if name in after]
    assert [list(after[name].dims) for name in ("Const:0", "Const_1:0", "sub/y:0")] == [[112, 111], [111, 112], [112]]
    assert all(after[name] == before[name] for name in heads)


def test_a_wide_familiarity_survives_where_float16_would_overflow() -> None:
    proto = two_convolutions()
    image = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 1), dtype=np.uint8)
    wide, narrow = (run(each, image) for each in (proto, halve(proto)))
    assert wide["familiarity"].min() > 65504  # the largest number of float16
    for name, values in wide.items():
        assert narrow[name].dtype == np.float32
        assert narrow[name] == pytest.approx(values, rel=5e-3, abs=1e-3)


def test_what_has_no_convolution_is_refused() -> None:
    with pytest.raises(ModelRefused, match="no convolutions in float32"):
        halve(brightness_model.graph(1.0))
    with pytest.raises(ModelRefused, match="no convolutions in float32"):
        halve(halve(two_convolutions()))


def test_too_many_flags_that_turn_refuse_it_and_leave_nothing(tmp_path: Path) -> None:
    said = halve_shipped(tmp_path / "half.onnx", "--provider", "cpu", "--threshold-rule", "fixed=0.99999")
    assert isinstance(said.exception, ModelRefused)
    assert "4 flags of 8 images changed" in str(said.exception)
    assert [path.name for path in tmp_path.iterdir()] == ["half.csv"]


def test_the_original_is_not_written_over() -> None:
    before = DEFAULT_MODEL.stat()
    with pytest.raises(BadSetting, match="another name"):
        convert(DEFAULT_MODEL, "cpu", DEFAULT_MODEL.parent, Manifest((), 0), None, DEFAULT_MODEL, silent)
    assert DEFAULT_MODEL.stat() == before


def test_an_answer_that_is_no_number_is_refused() -> None:
    seen = LoadedSplit([], np.zeros((1, 8, 8, 1), np.uint8), [])
    with pytest.raises(ModelRefused, match="familiarity of an image is not a finite number"):
        predict_split(Overflowing(), seen)


def test_distances_and_flips() -> None:
    before = Predictions(np.array([0.29, 0.5]), np.array([0.5, 20.0]), np.zeros((2, 1, 1)))
    after = Predictions(np.array([0.31, 0.5]), np.array([0.6, 21.0]), np.full((2, 1, 1), 0.25))
    found = differences(before, after, (0.3, 0.3))
    assert (found.flips, found.images) == (1, 2)
    assert found.probability_largest == pytest.approx(0.02)
    assert found.familiarity_largest == pytest.approx(0.1)  # relative above 1
    assert (found.heat_largest, found.heat_mean) == (0.25, 0.25)
    assert differences(before, after, (0.3, 0.32)).flips == 0  # each at its own operating point
    require_near({"test": replace(found, images=200)})
    with pytest.raises(ModelRefused, match="2 flags of 399 images"):
        require_near({"validation": replace(found, images=200), "test": replace(found, images=199)})


def test_the_verb_needs_no_training_framework() -> None:
    modules = "trainer.cli.main, trainer.export.float16, onnx, onnxruntime.transformers.float16"
    code = f"import sys, {modules}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) & {"keras", "tensorflow", "tf2onnx", "sklearn", "matplotlib"} == set()


class Overflowing:
    """A Model whose familiarity has left the numbers."""

    card: ModelCard = card()
    digest = "0" * 64
    provider = "CUDAExecutionProvider"

    def predict(self, batch: NDArray[np.uint8]) -> list[Prediction]:
        """The same for every image."""
        return [Prediction(0.5, np.zeros((1, 1), np.float32), float("inf")) for _ in batch]


def two_convolutions() -> Any:
    """Two convolutions, the second with a way around it that ends behind it; one constant that trunk and head share.

    Familiarity is the square of the first one's mean, times a million.
    """
    rng = np.random.default_rng(1)
    weights = {
        "first": rng.normal(0, 0.5, (4, 1, 3, 3)),
        "second": rng.normal(0, 0.3, (4, 4, 3, 3)),
        "full": np.array(255.0),
        "two": np.array(2.0),
        "million": np.array(1e6),
    }
    constants = [numpy_helper.from_array(values.astype(np.float32), name) for name, values in weights.items()]
    axes = {"all_but_first": [1, 2, 3], "channels": [1]}
    constants += [numpy_helper.from_array(np.array(values, np.int64), name) for name, values in axes.items()]
    nodes = [
        helper.make_node("Cast", ["image"], ["grey"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["grey", "full"], ["unit"]),
        helper.make_node("Transpose", ["unit"], ["nchw"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["nchw", "first"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Mul", ["a", "two"], ["b"]),
        helper.make_node("Conv", ["b", "second"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["b", "c"], ["d"]),
        helper.make_node("ReduceMean", ["d", "channels"], ["heatmap"], keepdims=0),
        helper.make_node("ReduceMean", ["d", "all_but_first"], ["logit"], keepdims=0),
        helper.make_node("Sigmoid", ["logit"], ["probability"]),
        helper.make_node("ReduceMean", ["b", "all_but_first"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "mean"], ["square"]),
        helper.make_node("Mul", ["square", "million"], ["far"]),
        helper.make_node("Mul", ["far", "two"], ["familiarity"]),
    ]
    shapes: dict[str, list[Any]] = {"probability": ["N"], "heatmap": ["N", 8, 8], "familiarity": ["N"]}
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", 8, 8, 1])
    graph = helper.make_graph(nodes, "two convolutions", [image], outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def run(proto: Any, image: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    onnx.checker.check_model(proto, full_check=True)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"image": image}), strict=True))


def test_a_threshold_chosen_anew_is_no_longer_a_sites(shipped: OnnxModel, tmp_path: Path) -> None:
    half = Estimate(0.5, 0.4, 0.6, 10)
    site = SitePoint("north", 10, 10, half, half, half, half, 0.5, None, (), False, shipped.digest)
    calibrated = tmp_path / "site.onnx"
    write(onnx.load(DEFAULT_MODEL), replace(shipped.card, site=site), calibrated)
    said = halve_shipped(tmp_path / "half.onnx", "--provider", "cpu", model=calibrated)
    assert said.exit_code == 0, said.output
    assert open_model(tmp_path / "half.onnx", "cpu").card.site is None
