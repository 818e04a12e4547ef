"""A model file is opened, checked with its goldens and used, or refused with the reason."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from worker.errors import DeviceUnavailable, ModelRefused, ProviderUnavailable
from worker.imaging.image_file import read_display
from worker.imaging.preprocess import Preprocessing, apply
from worker.inference.card import Golden, ModelCard, OperatingPoint, Population
from worker.inference.estimate import Estimate
from worker.inference.lung_field import FieldLimits
from worker.inference.model import BATCH_SIZES, PROVIDERS, OnnxModel, open_model, replay_goldens

SIZE = 8
FLOAT, UINT8 = TensorProto.FLOAT, TensorProto.UINT8
OUTPUTS: dict[str, list[Any]] = {"probability": ["N"], "heatmap": ["N", SIZE, SIZE], "familiarity": ["N"]}


def card(goldens: tuple[Golden, ...] = (), size: int = SIZE) -> ModelCard:
    half = Estimate(0.5, 0.4, 0.6, 10)
    return ModelCard(
        name="brightness",
        recipe="test",
        preprocessing=Preprocessing(size=size),
        operating_point=OperatingPoint(0.5, "fixed", half, half, "0" * 64),
        temperature=1.0,
        heat_scale=1.0,
        heat_method="Grad-CAM",
        population=Population("anybody"),
        familiarity_limit=None,
        metrics={"validation_auc": half},
        data_digest="1" * 64,
        versions={"onnx": onnx.__version__},
        created_at="2026-01-01T00:00:00+00:00",
        goldens=goldens,
    )


def graph(outputs: dict[str, list[Any]] | None = None, image_type: int = UINT8, extra: list[Any] | None = None) -> Any:
    """Probability: the mean brightness in [0, 1]; heat: the image itself; familiarity: twice the brightness."""
    nodes = [
        helper.make_node("Cast", ["image"], ["grey"], to=FLOAT),
        helper.make_node("Div", ["grey", "full"], ["unit"]),
        helper.make_node("ReduceMean", ["unit", "inner"], ["probability"], keepdims=0),
        helper.make_node("Squeeze", ["unit", "channel"], ["heatmap"]),
        helper.make_node("Add", ["probability", "probability"], ["familiarity"]),
        *(extra or []),
    ]
    constants = [
        helper.make_tensor("full", FLOAT, [], [255.0]),
        helper.make_tensor("inner", TensorProto.INT64, [3], [1, 2, 3]),
        helper.make_tensor("channel", TensorProto.INT64, [1], [3]),
        helper.make_tensor("four", TensorProto.INT64, [2], [4, SIZE * SIZE]),
    ]
    tensors = [helper.make_tensor_value_info(n, FLOAT, s) for n, s in (outputs or OUTPUTS).items()]
    image = helper.make_tensor_value_info("image", image_type, ["N", SIZE, SIZE, 1])
    made = helper.make_graph(nodes, "brightness", [image], tensors, constants)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def write(path: Path, proto: Any, promises: ModelCard | None) -> Path:
    if promises is not None:
        helper.set_model_props(proto, promises.to_metadata())
    path.write_bytes(proto.SerializeToString())
    return path


def images(count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(count).integers(0, 256, (count, SIZE, SIZE, 1), np.uint8)


@pytest.fixture
def model(tmp_path: Path) -> OnnxModel:
    return open_model(write(tmp_path / "m.onnx", graph(), card()), "cpu")


def test_it_says_what_it_is(tmp_path: Path) -> None:
    path = write(tmp_path / "m.onnx", graph(), card())
    model = open_model(path, "cpu")
    assert model.card == card()
    assert model.digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert model.provider == "CPUExecutionProvider"


@pytest.mark.parametrize("count", [1, 3, 16, 19])
def test_every_image_gets_its_own_prediction_whatever_the_padding(model: OnnxModel, count: int) -> None:
    batch = images(count)
    predictions = model.predict(batch)
    assert [p.probability for p in predictions] == pytest.approx([b.mean() / 255 for b in batch], abs=1e-6)
    assert [p.familiarity for p in predictions] == pytest.approx([2 * b.mean() / 255 for b in batch], abs=1e-6)
    for prediction, image in zip(predictions, batch, strict=True):
        np.testing.assert_allclose(prediction.heatmap, image[:, :, 0] / 255, atol=1e-6)
        assert prediction.heatmap.dtype == np.float32


def test_no_image_gives_no_prediction(model: OnnxModel) -> None:
    assert model.predict(images(0)) == []


@pytest.mark.parametrize("wrong", [images(2)[:, :4], images(2)[..., 0], images(2).astype(np.float32)])
def test_a_batch_of_another_shape_or_type_is_a_bug(model: OnnxModel, wrong: Any) -> None:
    with pytest.raises(ValueError, match="a batch is uint8"):
        model.predict(wrong)


BROKEN_GRAPHS = {
    "an output lacks": graph({k: v for k, v in OUTPUTS.items() if k != "familiarity"}),
    "an output has another rank": graph(OUTPUTS | {"heatmap": ["N", SIZE, SIZE, 1]}, extra=None),
    "the input is float": graph(image_type=FLOAT),
    "an output too many": graph(OUTPUTS | {"unit": ["N", SIZE, SIZE, 1]}),
}


@pytest.mark.parametrize("fault", sorted(BROKEN_GRAPHS))
def test_a_graph_that_breaks_the_contract_is_refused(tmp_path: Path, fault: str) -> None:
    path = write(tmp_path / "broken.onnx", BROKEN_GRAPHS[fault], card())
    with pytest.raises(ModelRefused, match=r"broken\.onnx"):
        open_model(path, "cpu")


def test_a_card_of_another_size_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "m.onnx", graph(), card(size=224))
    with pytest.raises(ModelRefused, match="224 px"):
        open_model(path, "cpu")


LIMITS = FieldLimits(area=(0.1, 0.6), paired=(0.5, 1.0), edge=(0.0, 0.2), certainty=(0.7, 1.0))
LUNGS = helper.make_node("Identity", ["heatmap"], ["lungs"])


def test_a_model_whose_card_states_limits_of_a_lung_field_gives_that_field(tmp_path: Path) -> None:
    proto = graph(OUTPUTS | {"lungs": ["N", SIZE, SIZE]}, extra=[LUNGS])
    model = open_model(write(tmp_path / "m.onnx", proto, replace(card(), field_limits=LIMITS)), "cpu")
    assert model.card.field_limits == LIMITS
    shown = images(2)
    for image, prediction in zip(shown, model.predict(shown), strict=True):
        assert prediction.lungs is not None
        assert np.allclose(prediction.lungs, image[:, :, 0] / 255)


def test_limits_of_a_lung_field_without_the_field_are_refused_and_the_field_without_limits_too(tmp_path: Path) -> None:
    with pytest.raises(ModelRefused, match="lungs"):
        open_model(write(tmp_path / "m.onnx", graph(), replace(card(), field_limits=LIMITS)), "cpu")
    proto = graph(OUTPUTS | {"lungs": ["N", SIZE, SIZE]}, extra=[LUNGS])
    with pytest.raises(ModelRefused, match="lungs"):
        open_model(write(tmp_path / "m.onnx", proto, card()), "cpu")


def test_a_model_without_a_card_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "bare.onnx", graph(), None)
    with pytest.raises(ModelRefused, match=r"bare\.onnx.*trainer fit"):
        open_model(path, "cpu")


@pytest.mark.parametrize("content", [b"", b"<html>not a model</html>", b"\xff" * 40, b"\x72\x05abc"])
def test_a_file_that_is_no_model_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "odd.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelRefused, match=r"odd\.onnx"):
        open_model(path, "cpu")


def test_every_shortened_file_is_refused(tmp_path: Path) -> None:
    whole = write(tmp_path / "m.onnx", graph(), card()).read_bytes()
    for length in range(1, len(whole), 97):
        path = tmp_path / "short.onnx"
        path.write_bytes(whole[:length])
        with pytest.raises(ModelRefused, match=r"short\.onnx"):
            open_model(path, "cpu")


def test_an_absent_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelRefused, match=r"none\.onnx.*check the path"):
        open_model(tmp_path / "none.onnx")


def golden(grey: int, probability: float, name: str = "grey.png") -> Golden:
    content = cv2.imencode(".png", np.full((20, 30), grey, np.uint8))[1].tobytes()
    return Golden(name, content, probability, {"CPUExecutionProvider": 1e-4}, "made here")


def replayed(tmp_path: Path, *goldens: Golden) -> None:
    replay_goldens(open_model(write(tmp_path / "m.onnx", graph(), card(goldens)), "cpu"))


def test_goldens_that_hold_let_the_model_serve(tmp_path: Path) -> None:
    replayed(tmp_path, golden(90, 90 / 255), golden(200, 200 / 255))


def test_a_tampered_golden_is_named_with_both_numbers(tmp_path: Path) -> None:
    with pytest.raises(ModelRefused, match=r"'dark\.png' gives probability 0\.352941, the card says 0\.360000"):
        replayed(tmp_path, golden(200, 200 / 255), golden(90, 0.36, "dark.png"))


@pytest.mark.parametrize(
    "bad",
    [
        golden(90, float("nan")),
        replace(golden(90, 90 / 255), content=b"no image"),
        replace(golden(90, 90 / 255), tolerances={"CUDAExecutionProvider": 1.0}),
    ],
    ids=["nan", "unreadable", "no tolerance"],
)
def test_a_golden_that_proves_nothing_is_refused(tmp_path: Path, bad: Golden) -> None:
    with pytest.raises(ModelRefused, match=r"'grey\.png'"):
        replayed(tmp_path, bad)


def test_a_model_without_goldens_cannot_be_proved(tmp_path: Path) -> None:
    with pytest.raises(ModelRefused, match="no golden"):
        replayed(tmp_path)


def test_a_device_that_fails_while_it_runs_is_an_outage_not_a_verdict(tmp_path: Path) -> None:
    reshape = [
        helper.make_node("Reshape", ["unit", "four"], ["rows"]),  # only a batch of four has this shape
        helper.make_node("ReduceSum", ["rows"], ["total"], keepdims=0),
        helper.make_node("Mul", ["total", "probability"], ["scaled"]),
    ]
    proto = graph(extra=reshape)
    proto.graph.node[4].input[0] = "scaled"
    nodes = [proto.graph.node[i] for i in (0, 1, 2, 3, 5, 6, 7, 4)]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    model = open_model(write(tmp_path / "m.onnx", proto, card()), "cpu")
    assert len(model.predict(images(4))) == 4
    with pytest.raises(DeviceUnavailable, match="CPUExecutionProvider failed on a batch of 8"):
        model.predict(images(6))


def test_a_batch_that_fails_is_never_run_again_on_another_device(tmp_path: Path) -> None:
    """ONNX Runtime would fall back to the CPU, and the result would bear the name of the device that failed."""
    model = open_model(write(tmp_path / "m.onnx", graph(), card()), "cpu")
    assert model.session._enable_fallback is False


def test_an_unknown_provider_is_refused_with_the_choice(tmp_path: Path) -> None:
    path = write(tmp_path / "m.onnx", graph(), card())
    with pytest.raises(ProviderUnavailable, match="auto, cpu, cuda"):
        open_model(path, "tpu")


def test_asked_for_cuda_it_binds_cuda_or_refuses_without_noise(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "m.onnx", graph(), card())
    if open_model(path).provider == PROVIDERS["cuda"]:
        assert open_model(path, "cuda").provider == PROVIDERS["cuda"]
    else:
        with pytest.raises(ProviderUnavailable, match="choose auto or cpu"):
            open_model(path, "cuda")
    said = capfd.readouterr()
    assert said.out + said.err == ""


def test_auto_always_binds_something_that_predicts(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model = open_model(write(tmp_path / "m.onnx", graph(), card()))
    assert model.provider in PROVIDERS.values()
    assert len(model.predict(images(BATCH_SIZES[-1] + 1))) == BATCH_SIZES[-1] + 1
    assert capfd.readouterr().err == ""


SHIPPED = Path(__file__).parents[2] / "worker" / "inference" / "models" / "efficientnet_lite0_lungs.onnx"


@pytest.fixture(scope="module")
def shipped() -> OnnxModel:
    return open_model(SHIPPED, "cpu")


def test_the_shipped_model_proves_itself(shipped: OnnxModel) -> None:
    replay_goldens(shipped)
    assert SHIPPED.stat().st_size < 20e6
    assert shipped.card.operating_point.sensitivity.value >= 0.95
    assert shipped.card.metrics["elsewhere_sensitivity"].value >= 0.98
    assert shipped.card.field_limits is not None
    assert shipped.card.metrics["test_auc"].low > 0.97
    assert not shipped.card.population.admits(40)
    assert all("Kermany" in golden.attribution for golden in shipped.card.goldens)


def test_the_shipped_model_sees_the_same_in_monochrome1(shipped: OnnxModel) -> None:
    scores = {Path(golden.name).name: golden.probability for golden in shipped.card.goldens}
    (dicom,) = (name for name in scores if name.endswith(".dcm"))
    assert scores[dicom.replace(" as MONOCHROME1.dcm", ".jpeg")] == pytest.approx(scores[dicom], abs=1e-6)


def test_noise_is_far_from_what_the_shipped_model_knows(shipped: OnnxModel) -> None:
    known = [
        shipped.predict(apply(read_display(g.content).pixels, shipped.card.preprocessing)[0][None])[0].familiarity
        for g in shipped.card.goldens
    ]
    size = shipped.card.preprocessing.size
    noise = np.random.default_rng(0).integers(0, 256, (1, size, size, 1), np.uint8)
    assert shipped.predict(noise)[0].familiarity > 1.5 * max(known)
