"""A model gets another resize rule: the same weights, and a card that was measured with it."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result

from tests.brightness_model import SIZE
from tests.logistic_model import write_factory, write_site
from trainer.cli.main import app
from trainer.data.manifest import Manifest, Sample, write_manifest
from trainer.evaluation.logit_line import weights_digest
from trainer.statistics.operating_point import AND_ELSEWHERE, read_rule
from worker.errors import BadSetting
from worker.imaging.image_file import read_grid
from worker.imaging.preprocess import Resize
from worker.inference.model import OnnxModel, open_model, replay_goldens

RULE = "sensitivity=0.9"


@pytest.fixture
def factory(tmp_path: Path) -> Path:
    path = write_factory(tmp_path / "factory.onnx")
    card = open_model(path, "cpu").card
    point = replace(card.operating_point, rule=str(read_rule(RULE)))
    return write_factory(path, operating_point=point, prevalence=0.2)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Grainy images: what a grid sees of them depends on how they are resized. With split.csv beside them."""
    rng, samples = np.random.default_rng(1), []
    for i in range(80):
        label = i % 2
        grey = rng.normal(130 if label else 90, 18)
        pixels = np.clip(rng.normal(grey, 60, (67, 70)), 0, 255).astype(np.uint8)
        path = tmp_path / "data" / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(path), pixels)
        split = "test" if i % 4 > 1 else "validation"
        samples.append(Sample(path.name, label, "", f"patient {i}", "", split=split))
    write_manifest(Manifest(tuple(samples), 0), tmp_path / "split.csv")
    return tmp_path / "data"


def run(model: Path, data: Path, out: Path, *words: str | Path, to: str = "pyramid53") -> Result:
    split = data.parent / "split.csv"
    return CliRunner().invoke(
        app, ["resize", *map(str, (model, "--to", to, "--data", data, "--split-manifest", split, "--out", out, *words))]
    )


def answers(model: OnnxModel, data: Path) -> tuple[list[int], list[float]]:
    """Labels of the validation images, and what the model says of them, read as its card says."""
    numbers = [i for i in range(80) if i % 4 < 2]
    contents = [(data / f"{i}.png").read_bytes() for i in numbers]
    grids = np.stack([read_grid(content, model.card.preprocessing) for content in contents])
    return [i % 2 for i in numbers], [prediction.probability for prediction in model.predict(grids)]


def test_the_card_is_measured_with_the_new_rule(factory: Path, data: Path, tmp_path: Path) -> None:
    out, before = tmp_path / "new.onnx", factory.read_bytes()
    said = run(factory, data, out, "--json")
    assert said.exit_code == 0, said.output
    old, new = open_model(factory, "cpu"), open_model(out, "cpu")
    replay_goldens(new)
    assert factory.read_bytes() == before
    assert new.card.preprocessing == replace(old.card.preprocessing, resize=Resize.PYRAMID53)
    assert new.card.versions["made from"] == old.digest
    assert new.card.recipe == f"{old.card.recipe}, resize pyramid53"
    labels, found = answers(new, data)
    threshold = read_rule(RULE).choose(np.array(labels), np.array(found))
    assert new.card.operating_point.threshold == threshold
    assert new.card.operating_point.rule == str(read_rule(RULE))
    assert (new.card.metrics["validation_auc"].n, new.card.metrics["test_auc"].n) == (40, 40)
    assert new.card.reference is not None
    assert new.card.reference.n == (20, 20)
    told = json.loads(said.stdout)
    assert told["model_digest"] == new.digest
    assert told["moved"]["validation"]["probability_largest"] > 0.05
    assert told["original_metrics"]["test_auc"]["value"] == 0.5
    assert not list(tmp_path.glob("*.part"))


def test_probabilities_are_calibrated_again_at_the_prevalence_of_the_card(
    factory: Path, data: Path, tmp_path: Path
) -> None:
    assert run(factory, data, tmp_path / "new.onnx").exit_code == 0
    new = open_model(tmp_path / "new.onnx", "cpu")
    grid = np.full((1, SIZE, SIZE, 1), 120, np.uint8)
    logit = 20 * 120 / 255 - 8
    expected = 1 / (1 + np.exp(-(logit / new.card.temperature + new.card.bias)))
    assert new.predict(grid)[0].probability == pytest.approx(expected, abs=1e-4)
    labels, found = np.array(answers(new, data))
    weights = np.where(labels == 1, 0.2 / 0.5, 0.8 / 0.5)
    assert np.average(found, weights=weights) == pytest.approx(0.2, abs=0.01)


def test_such_a_model_can_be_calibrated_for_a_site_and_resized_back(factory: Path, data: Path, tmp_path: Path) -> None:
    out, back, at_site = tmp_path / "new.onnx", tmp_path / "back.onnx", tmp_path / "site.onnx"
    assert run(factory, data, out).exit_code == 0
    assert run(out, data, back, to="linear").exit_code == 0
    old, again = open_model(factory, "cpu"), open_model(back, "cpu")
    assert again.card.preprocessing == old.card.preprocessing
    site = write_site(tmp_path / "north")
    words = ["calibrate", str(out), "--data", str(site), "--accept-lower-sensitivity", "--out", str(at_site)]
    assert CliRunner().invoke(app, words).exit_code == 0
    made = open_model(at_site, "cpu")
    assert weights_digest(at_site) == weights_digest(out)
    grid = np.full((1, SIZE, SIZE, 1), 120, np.uint8)
    logit = 20 * 120 / 255 - 8
    expected = 1 / (1 + np.exp(-(logit / made.card.temperature + made.card.bias)))
    assert made.predict(grid)[0].probability == pytest.approx(expected, abs=1e-4)
    refused = run(at_site, data, tmp_path / "other.onnx", to="area")
    assert isinstance(refused.exception, BadSetting)
    assert "has the point of north" in str(refused.exception)


def test_the_threshold_holds_elsewhere_too(factory: Path, data: Path, tmp_path: Path) -> None:
    card = open_model(factory, "cpu").card
    words = f"{read_rule(RULE)}{AND_ELSEWHERE}{read_rule('sensitivity=0.8')}"
    write_factory(factory, operating_point=replace(card.operating_point, rule=words))
    out, north = tmp_path / "new.onnx", write_site(tmp_path / "north", positives=range(60, 205))
    refused = run(factory, data, out)
    assert isinstance(refused.exception, BadSetting)
    assert "give them with --elsewhere" in str(refused.exception)
    said = run(factory, data, out, "--elsewhere", north)
    assert said.exit_code == 0, said.output
    made = open_model(out, "cpu").card
    assert made.operating_point.rule == words
    assert made.metrics["elsewhere_sensitivity"].value == pytest.approx(0.8, abs=0.01)
    assert made.metrics["validation_sensitivity"].value > 0.9, "the lower threshold of the two"


@pytest.mark.parametrize(
    ("words", "to", "why"),
    [
        (("--out", "factory.onnx"), "pyramid53", "give --out another name"),
        ((), "linear", "its card says resize = linear already"),
        ((), "bilinear", "no resize rule 'bilinear': choose one of nearest"),
    ],
)
def test_what_makes_no_other_model_is_refused(
    factory: Path, data: Path, tmp_path: Path, words: tuple[str, ...], to: str, why: str
) -> None:
    named = [str(tmp_path / word) if word.endswith(".onnx") else word for word in words]
    refused = run(factory, data, tmp_path / "new.onnx", *named, to=to)
    assert isinstance(refused.exception, BadSetting)
    assert why in str(refused.exception)
    assert not (tmp_path / "new.onnx").exists()
