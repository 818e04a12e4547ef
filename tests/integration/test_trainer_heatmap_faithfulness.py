"""A map of the pixels that the model reads is better than random and centre maps; another map is not."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result
from numpy.typing import NDArray

from trainer.cli.main import app
from trainer.data.folders import read_samples
from trainer.evaluation.heatmap_faithfulness import FaithfulnessTest, measure_faithfulness
from trainer.progress import silent
from worker.errors import BadData
from worker.imaging.preprocess import Preprocessing
from worker.inference.card import ModelCard, OperatingPoint, Population
from worker.inference.estimate import Estimate
from worker.inference.prediction import Prediction

SIZE, CELLS = 64, 8
RATE = Estimate(1.0, 1.0, 1.0, 1)
SAMPLES = Path(__file__).parents[1] / "data" / "inbox"
MODEL = next((Path(__file__).parents[2] / "worker" / "inference" / "models").glob("*.onnx"))

#: Where pneumonia is bright, in cells, away from the centre; and where it is not.
PATCH, ELSEWHERE = np.s_[1:3, 5:7], np.s_[5:7, 1:3]


class PatchReader:
    """A Model that reads how bright one patch is, and says by its heat that it looked at `shown`."""

    digest, provider = "0" * 64, "CPUExecutionProvider"

    def __init__(self, shown: tuple[slice, slice] | None) -> None:
        self.heatmap = np.zeros((CELLS, CELLS), np.float32)
        if shown:
            self.heatmap[shown] = 1.0
        self.card = ModelCard(
            name="patch reader", recipe="none", preprocessing=Preprocessing(size=SIZE),
            operating_point=OperatingPoint(0.5, "fixed", RATE, RATE, ""), temperature=1.0, heat_scale=1.0,
            heat_method="by hand", population=Population("any"), familiarity_limit=None, metrics={}, data_digest="",
            versions={}, created_at="",
        )  # fmt: skip

    def predict(self, batch: NDArray[np.uint8]) -> list[Prediction]:
        side = SIZE // CELLS
        cells = batch[..., 0].reshape(-1, CELLS, side, CELLS, side).mean(axis=(2, 4))
        seen = cells[(slice(None), *PATCH)].mean(axis=(1, 2))
        return [Prediction(float(1 / (1 + np.exp(-(each - 140) / 12))), self.heatmap, 1.0) for each in seen]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 PNGs of 24 patients, every second one with a bright patch: pneumonia. One patch is too dim to be flagged."""
    root = tmp_path_factory.mktemp("patches")
    rng = np.random.default_rng(0)
    for i in range(24):
        image = 90 + cv2.GaussianBlur(rng.normal(0, 1, (SIZE, SIZE)), (0, 0), 4) * 60
        if i % 2:
            image[8:24, 40:56] += 20 if i == 1 else 110
        path = root / ("PNEUMONIA" if i % 2 else "NORMAL") / f"p{i}" / "image.png"
        path.parent.mkdir(parents=True)
        cv2.imwrite(str(path), np.clip(image, 0, 255).astype(np.uint8))
    return root


def played(
    images: Path, shown: tuple[slice, slice] | None, limit: int | None = None, seed: int = 0
) -> FaithfulnessTest:
    return measure_faithfulness(PatchReader(shown), images, read_samples(images), silent, limit=limit, seed=seed)


def test_a_map_of_what_the_model_reads_beats_chance_and_centre(images: Path) -> None:
    found = played(images, PATCH)
    scores = found.groups["true positives"]
    for other in ("model - random", "model - centre"):
        assert scores.differences["deletion"][other].high < -0.1
        assert scores.differences["insertion"][other].low > 0.1
    assert scores.probability > 0.9
    assert scores.reference_probability < 0.1
    assert scores.curves["deletion"]["model"][0] == pytest.approx(scores.probability, abs=1e-5)
    assert scores.curves["insertion"]["model"][0] == pytest.approx(scores.reference_probability, abs=1e-5)
    assert (found.groups["positives"].n, scores.n) == (12, 11), "the dim one is no true positive"


def test_a_map_of_something_else_does_not(images: Path) -> None:
    differences = played(images, ELSEWHERE).groups["positives"].differences
    assert differences["deletion"]["model - random"].value > 0
    assert differences["insertion"]["model - random"].value < 0


def test_a_map_without_heat_is_the_random_one(images: Path) -> None:
    scores = played(images, None).groups["positives"]
    assert scores.without_heat == scores.n
    for game in scores.differences.values():
        assert (game["model - random"].low, game["model - random"].high) == (0, 0)


def test_the_same_seed_repeats_and_draws_so_many(images: Path) -> None:
    once, again, otherwise = (played(images, PATCH, limit=5, seed=seed) for seed in (0, 0, 1))
    assert once == again
    assert once.groups["positives"].n == 5
    assert once.data_digest != otherwise.data_digest


def test_what_cannot_be_read_is_listed_and_what_cannot_be_played_is_refused(images: Path, tmp_path: Path) -> None:
    shutil.copytree(images / "PNEUMONIA", tmp_path / "PNEUMONIA")
    broken = tmp_path / "PNEUMONIA" / "p1" / "image.png"
    broken.write_bytes(b"no image")
    samples = read_samples(tmp_path)
    with pytest.raises(BadData, match="choose --reference blurred"):
        measure_faithfulness(PatchReader(PATCH), tmp_path, samples, silent)
    found = measure_faithfulness(PatchReader(PATCH), tmp_path, samples, silent, reference="blurred")
    assert found.groups["positives"].n == 11
    assert [fault["path"] for fault in found.unreadable] == ["PNEUMONIA/p1/image.png"]
    with pytest.raises(BadData, match="no readable image with pneumonia"):
        measure_faithfulness(PatchReader(PATCH), images, [s for s in read_samples(images) if not s.label], silent)


def test_the_program_plays_with_the_shipped_model(tmp_path: Path) -> None:
    for label, name in (("PNEUMONIA", "mia_224.jpeg"), ("NORMAL", "noah_224.jpeg")):
        (tmp_path / label / "someone").mkdir(parents=True)
        shutil.copy(SAMPLES / name, tmp_path / label / "someone" / name)
    found = json.loads(ran("--data", tmp_path, "--json").stdout)
    assert found["normals"] == 1
    scores = found["groups"]["true positives"]
    assert scores["n"] == 1
    assert scores["reference_probability"] < found["threshold"] <= scores["probability"]
    assert set(scores["areas"]["deletion"]) == {"model", "random", "centre"}
    assert "insertion, model - random" in ran("--data", tmp_path, "--reference", "blurred").stdout


#: As in a terminal, whatever the suite was started with.
INTERRUPTIBLE = "import signal; signal.signal(2, signal.default_int_handler); from trainer.cli.main import main; main()"


def test_ctrl_c_is_told_from_a_refusal(tmp_path: Path) -> None:
    for number in range(200):
        (tmp_path / "PNEUMONIA" / f"p{number}").mkdir(parents=True)
        shutil.copy(SAMPLES / "mia_224.jpeg", tmp_path / "PNEUMONIA" / f"p{number}" / "image.jpeg")
    command = [sys.executable, "-c", INTERRUPTIBLE, "heat", str(MODEL), "--data", str(tmp_path)]
    with subprocess.Popen([*command, "--reference", "blurred"], stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        assert json.loads(running.stderr.readline())["event"] == "reading"
        running.send_signal(signal.SIGINT)
        assert running.wait() == 130
    for words, code in ((["heat", "--no-such-option"], 64), (["heat", str(MODEL), "--data", str(tmp_path / "no")], 1)):
        assert subprocess.run([sys.executable, "-m", "trainer", *words], capture_output=True).returncode == code


def ran(*words: str | Path) -> Result:
    arguments = ["heat", str(MODEL), "--provider", "cpu", *map(str, words)]
    answer = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert answer.exit_code == 0
    return answer
