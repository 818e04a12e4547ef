"""`trainer reference` completes a model file: the same scores, and a reference for drift on the card."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

from tests.benchmarks.drift import RESULT, graph_digest
from tests.brightness_model import write_image, write_model
from trainer.cli.main import app
from trainer.data.folders import read_samples
from trainer.data.manifest import digest, read_manifest
from worker.inference.card import CARD_KEY, GOLDENS_KEY, REFERENCE_KEY
from worker.inference.model import open_model
from worker.settings import DEFAULT_MODEL

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six dark normals, four bright pneumonias, and a letter that calls itself an image."""
    root = tmp_path / "data"
    for i in range(6):
        write_image(root / "NORMAL" / f"n{i}.png", 40 + i, noise=i)
    for i in range(4):
        write_image(root / "PNEUMONIA" / f"p{i}.png", 200 + i, noise=i)
    (root / "NORMAL" / "letter.png").write_text("Dear colleague", encoding="utf-8")
    rows = [f"{path.relative_to(root)},{path.parent.name},{path.stem}\n" for path in root.rglob("*.png")]
    (root / "index.csv").write_text("".join(["path,label,patient\n", *rows]), encoding="utf-8")
    return root


def test_the_file_is_the_same_but_for_its_reference(folder: Path, tmp_path: Path) -> None:
    old, new = write_model(tmp_path / "old.onnx"), tmp_path / "new.onnx"
    said = CliRunner().invoke(app, ["reference", str(old), "--data", str(folder), "--out", str(new)])
    assert said.exit_code == 0, said.output
    assert "6 no_pneumonia, 4 pneumonia; 40.0% flagged" in said.output
    assert "left out: NORMAL/letter.png" in said.output
    before, after = ({p.key: p.value for p in onnx.load(path).metadata_props} for path in (old, new))
    assert after.keys() - before.keys() == {REFERENCE_KEY}
    assert [after[key] == before[key] for key in (CARD_KEY, GOLDENS_KEY)] == [True, True]
    assert graph_digest(new) == graph_digest(old)
    made = open_model(new, "cpu").card.reference
    assert made is not None
    assert (made.n, made.flagged) == ((6, 4), (0, 4))
    assert made.histograms["display_mean"].means == pytest.approx((42 / 255, 201 / 255), abs=0.03)
    again = CliRunner().invoke(app, ["reference", str(new), "--data", str(folder), "--unlabelled", "--out", str(new)])
    assert "10 unlabelled; 40.0% flagged" in again.output
    assert not list(tmp_path.glob("*.part"))


def test_a_model_that_fails_its_goldens_is_not_completed(folder: Path, tmp_path: Path) -> None:
    broken = write_model(tmp_path / "old.onnx", golden_gain=0.5)
    new = tmp_path / "new.onnx"
    said = CliRunner().invoke(app, ["reference", str(broken), "--data", str(folder), "--out", str(new)])
    assert said.exit_code != 0
    assert sorted(path.name for path in tmp_path.glob("*.onnx*")) == ["old.onnx"]


def test_the_shipped_model_is_the_measured_one_with_the_reference_of_its_validation_images() -> None:
    told = json.loads(RESULT.read_text(encoding="utf-8"))
    shipped = open_model(DEFAULT_MODEL, "cpu")
    assert shipped.digest == told["model_digest"]
    assert graph_digest(DEFAULT_MODEL) == told["graph_sha256"] == told["before"]["graph_sha256"]
    for path in RESULTS.glob("trainer_efficientnet_lite0_lungs_*.json"):
        named = json.loads(path.read_text(encoding="utf-8")).get("model_digest")
        assert named in (None, told["before"]["model_digest"], told["model_digest"]), path.name
    validation = read_manifest(RESULTS / "trainer_efficientnet_lite0_lungs_split.csv").of("validation")
    reference = shipped.card.reference
    assert reference is not None
    assert list(reference.n) == list(np.bincount([sample.label for sample in validation]))
    assert reference.data_digest == digest(validation) == shipped.card.operating_point.data_digest


def test_on_the_images_that_chose_the_threshold_it_adds_their_scores(folder: Path, tmp_path: Path) -> None:
    readable = [sample for sample in read_samples(folder) if "letter" not in sample.path]
    for chosen_on, kept in (("", None), (digest(readable), (6, 4))):
        old = write_model(tmp_path / "old.onnx", chosen_on=chosen_on)
        said = CliRunner().invoke(app, ["reference", str(old), "--data", str(folder), "--out", str(old)])
        assert said.exit_code == 0, said.output
        scores = open_model(old, "cpu").card.validation_scores
        assert (None if scores is None else (len(scores.normals), len(scores.positives))) == kept
    assert scores is not None
    assert list(scores.positives) == sorted(scores.positives)
    assert min(scores.positives) > 0.75 > 0.2 > max(scores.normals)
