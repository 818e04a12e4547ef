"""`trainer shift` separates a model that reads anatomy from one that reads style, and names its worst group."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from trainer.cli.main import app
from trainer.data.folders import read_samples
from trainer.evaluation.shift import GROUPS, PLAIN, shift
from trainer.progress import silent
from worker.errors import BadData
from worker.imaging.preprocess import Preprocessing
from worker.inference.card import ModelCard, OperatingPoint, Population
from worker.inference.estimate import Estimate
from worker.inference.prediction import Prediction

SIZE = 64
RATE = Estimate(1.0, 1.0, 1.0, 1)


class Reader:
    """A Model that scores an image by one number of it: a real model, if a small one."""

    digest, provider = "0" * 64, "CPUExecutionProvider"

    def __init__(self, score: Any) -> None:
        self.score = score
        self.card = ModelCard(
            name="reader", recipe="none", preprocessing=Preprocessing(size=SIZE),
            operating_point=OperatingPoint(0.5, "fixed", RATE, RATE, ""), temperature=1.0, heat_scale=1.0,
            heat_method="none", population=Population("any"), familiarity_limit=None, metrics={}, data_digest="",
            versions={}, created_at="",
        )  # fmt: skip

    def predict(self, batch: NDArray[np.uint8]) -> list[Prediction]:
        return [Prediction(float(self.score(image[:, :, 0])), np.zeros((1, 1), np.float32), 1.0) for image in batch]


def reads_anatomy(image: NDArray[np.uint8]) -> float:
    """Is the middle brighter than what surrounds it?"""
    middle, around = image[24:40, 24:40].mean(), image[8:16, 8:56].mean()
    return float(1 / (1 + np.exp(-(middle - around) / 4)))


def reads_brightness(image: NDArray[np.uint8]) -> float:
    return float(1 / (1 + np.exp(-(image.mean() - 115) / 4)))


def reads_fine_grain(image: NDArray[np.uint8]) -> float:
    """Normals here have more of it: the compression took it from the pneumonias."""
    grain = np.abs(np.diff(image.astype(np.float64), axis=1)).mean()
    return float(1 / (1 + np.exp(grain - 6)))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 PNGs; pneumonia has a bright middle, but also a brighter exposure and less grain."""
    root = tmp_path_factory.mktemp("shifted")
    rng = np.random.default_rng(0)
    for i in range(60):
        sick = i % 2 == 1
        soft = cv2.GaussianBlur(rng.normal(0, 1, (96, 96)), (0, 0), 8) * 60
        image = 100 + soft + rng.normal(0, 2 if sick else 9, (96, 96)) + (25 if sick else 0)
        if sick:
            image[36:60, 36:60] += 45
        path = root / ("PNEUMONIA" if sick else "NORMAL") / f"p{i}" / "image.png"
        path.parent.mkdir(parents=True)
        cv2.imwrite(str(path), np.clip(image, 0, 255).astype(np.uint8))
    return root


def test_a_model_that_reads_anatomy_holds_in_every_group(images: Path) -> None:
    found = shift(Reader(reads_anatomy), images, read_samples(images), silent)
    assert set(found.groups) == set(GROUPS)
    assert len(found.groups) == 25
    assert min(group["auc"].value for group in found.groups.values()) > 0.95
    assert found.groups["12-bit dicom"] == found.groups[PLAIN]


def test_a_model_that_reads_brightness_is_perfect_until_it_is_restyled(images: Path) -> None:
    found = shift(Reader(reads_brightness), images, read_samples(images), silent)
    assert found.groups[PLAIN]["auc"].value > 0.99
    assert found.worst in ("restyled", "rematched")
    assert found.groups["rematched"]["auc"].value < 0.1, "the exposure is now the other class's"
    assert found.auc_loss(found.worst) > 0.5
    assert found.groups["gamma 0.6"]["auc"].value > 0.95, "all are brightened alike: the order stays,"
    assert found.groups["gamma 0.6"]["specificity"].value < 0.2, "but the threshold no longer fits"
    assert found.worst_at_threshold in found.groups


def test_a_model_that_reads_compression_breaks_where_grain_is_made_or_lost(images: Path) -> None:
    found = shift(Reader(reads_fine_grain), images, read_samples(images), silent)
    assert found.groups[PLAIN]["sensitivity"].value == found.groups[PLAIN]["specificity"].value == 1.0
    assert found.groups["area 112"]["specificity"].value >= found.groups["jpeg 30"]["specificity"].value
    assert found.groups["jpeg 30"]["specificity"].value < 0.9


def copy_some(images: Path, root: Path, step: int) -> Path:
    for source in sorted(images.rglob("*.png"))[::step]:
        target = root / source.relative_to(images)
        target.parent.mkdir(parents=True)
        target.write_bytes(source.read_bytes())
    return root


def test_the_same_seed_repeats_and_broken_files_are_listed(images: Path, tmp_path: Path) -> None:
    copy_some(images, tmp_path, step=6)
    broken = tmp_path / "NORMAL" / "p98" / "image.png"
    broken.parent.mkdir()
    broken.write_bytes(b"no image")
    once, again = (shift(Reader(reads_anatomy), tmp_path, read_samples(tmp_path), silent) for _ in range(2))
    assert once == again
    assert once.n == 10
    assert [fault["path"] for fault in once.unreadable] == ["NORMAL/p98/image.png"]


def test_one_class_alone_is_refused(images: Path) -> None:
    with pytest.raises(BadData, match="both classes"):
        shift(Reader(reads_anatomy), images, [s for s in read_samples(images) if s.label], silent)


def test_the_program_prints_a_table_and_json_with_the_shipped_model(images: Path, tmp_path: Path) -> None:
    model = next((Path(__file__).parents[2] / "worker" / "inference" / "models").glob("*.onnx"))
    words = ["shift", str(model), "--data", str(copy_some(images, tmp_path, step=10)), "--provider", "cpu"]
    found = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
    assert found["worst"] in found["groups"]
    assert found["auc_loss"][PLAIN] == 0
    assert {"auc", "sensitivity", "specificity"} == set(found["groups"]["restyled"])
    assert "worst AUC: " in CliRunner().invoke(app, words).stdout
