"""`trainer compare` on real files: the numbers, the flips and their pictures, and what it refuses."""

import json
from pathlib import Path
from typing import Any

import cv2
import pytest
from click.testing import CliRunner

from tests.brightness_model import write_image, write_model
from trainer.cli.main import app
from trainer.data.folders import read_samples
from trainer.data.manifest import digest
from worker.errors import BadData
from worker.inference.model import open_model
from worker.registry.comparison import Comparison, read_comparison

#: Brightness of each image. At threshold 0.5 the old model (gain 1) flags 128 and more, the new one (gain 1.25) 102.
PNEUMONIA = (90, 110, 120, 140, 180, 200)
NORMAL = (20, 40, 60, 80, 105, 150)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    root = tmp_path / "images"
    for label, greys in (("PNEUMONIA", PNEUMONIA), ("NORMAL", NORMAL)):
        for i, grey in enumerate(greys):
            name = f"person{i}_virus_{i}" if label == "PNEUMONIA" else f"IM-{i:04d}-1"
            write_image(root / label / f"{name}.png", grey, noise=i)
    return root


@pytest.fixture
def models(tmp_path: Path) -> tuple[Path, Path]:
    return write_model(tmp_path / "old.onnx", 1.0, name="old"), write_model(tmp_path / "new.onnx", 1.25, name="new")


def run(*words: str | Path) -> Any:
    return CliRunner().invoke(app, ["compare", *map(str, words)])


def test_the_numbers_the_flips_and_their_pictures(images: Path, models: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    answer = run(*models, "--data", images, "--out", out, "--json")
    assert answer.exit_code == 0, answer.output
    comparison = read_comparison(out / "comparison.json").comparison
    assert Comparison.from_json(json.loads(answer.stdout)) == comparison
    assert (comparison.old.digest, comparison.new.digest) == tuple(open_model(m).digest for m in models)
    assert comparison.data_digest == digest(read_samples(images))
    assert (comparison.n, comparison.positives, comparison.patients) == (12, 6, 12)
    assert comparison.sensitivity.value == pytest.approx(2 / 6)
    assert comparison.specificity.value == pytest.approx(-1 / 6)
    assert comparison.sensitivity.low <= 2 / 6 <= comparison.sensitivity.high
    assert (comparison.positive_flips.won, comparison.negative_flips.lost) == (2, 1)
    assert [(f.path.split("/")[0], f.is_won) for f in comparison.flips] == [
        ("NORMAL", False), ("PNEUMONIA", True), ("PNEUMONIA", True),
    ]  # fmt: skip
    for flip in comparison.flips:
        picture = cv2.imread(str(out / str(flip.picture)))
        assert picture is not None
        assert picture.shape[1] > picture.shape[0], "old on the left, new on the right"


def test_the_table_says_what_is_held_against_the_margin(
    images: Path, models: tuple[Path, Path], tmp_path: Path
) -> None:
    answer = run(*models, "--data", images, "--out", tmp_path / "out")
    assert "6 positives and 6 negatives are too few to judge a model" in answer.stdout
    assert "the point difference is compared with each margin" in answer.stdout
    assert "sensitivity +0.3333" in answer.stdout
    back = run(*reversed(models), "--data", images, "--out", tmp_path / "back")
    assert "BREAKS its margin" in back.stdout
    assert "3 pictures" in back.stdout


def test_at_most_twelve_pictures_and_every_flip_in_the_file(models: tuple[Path, Path], tmp_path: Path) -> None:
    for i in range(20):
        write_image(tmp_path / "many" / "PNEUMONIA" / f"person{i}_virus_{i}.png", 115, noise=i)
        write_image(tmp_path / "many" / "NORMAL" / f"IM-{i:04d}-1.png", 20, noise=i)
    run(*models, "--data", tmp_path / "many", "--out", tmp_path / "out")
    flips = read_comparison(tmp_path / "out" / "comparison.json").comparison.flips
    assert len(flips) == 20
    assert len(list((tmp_path / "out").glob("flip_*.png"))) == 12


def test_an_unreadable_file_is_left_out_for_both(images: Path, models: tuple[Path, Path], tmp_path: Path) -> None:
    (images / "NORMAL" / "IM-0000-1.png").write_bytes(b"no image")
    assert run(*models, "--data", images, "--out", tmp_path / "out").exit_code == 0
    comparison = read_comparison(tmp_path / "out" / "comparison.json").comparison
    assert (comparison.n, comparison.unreadable) == (11, 1)


def test_what_cannot_be_fair_is_refused(images: Path, models: tuple[Path, Path], tmp_path: Path) -> None:
    old, new = models
    for words, complaint in (
        ((old, old, "--data", images), "the same model"),
        ((old, new, "--data", images / "NORMAL"), "at least two readable images of each class"),
    ):
        answer = run(*words, "--out", tmp_path / "out")
        assert isinstance(answer.exception, BadData)
        assert complaint in str(answer.exception)
    assert not (tmp_path / "out").exists()


def test_images_that_chose_a_threshold_are_refused_also_beside_one_that_cannot_be_read(
    images: Path, models: tuple[Path, Path], tmp_path: Path
) -> None:
    broken = images / "NORMAL" / "IM-9999-1.png"
    chosen = write_model(tmp_path / "chosen.onnx", 1.1, chosen_on=digest(read_samples(images)))
    broken.write_bytes(b"no image")
    answer = run(models[0], chosen, "--data", images, "--out", tmp_path / "out")
    assert isinstance(answer.exception, BadData)
    assert "chosen on these images" in str(answer.exception)


def test_images_that_chose_a_threshold_are_refused(images: Path, models: tuple[Path, Path], tmp_path: Path) -> None:
    chosen = write_model(tmp_path / "chosen.onnx", 1.1, chosen_on=digest(read_samples(images)))
    answer = run(models[0], chosen, "--data", images, "--out", tmp_path / "out")
    assert isinstance(answer.exception, BadData)
    assert "chosen on these images" in str(answer.exception)
