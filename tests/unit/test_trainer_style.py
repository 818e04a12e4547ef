"""Style is measured by numbers without anatomy; images with the style of the other class are found and held out."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from trainer.data.folders import read_samples
from trainer.data.manifest import Manifest, read_manifest, write_manifest
from trainer.data.sampling import RAREST, style_balanced_batches
from trainer.data.split import split
from trainer.data.style import describe, hold_out, propensities, resembles_other_class
from worker.errors import BadData

SIDE = 48

#: Of the 60 images of each class, those made as the other class is.
ODD = (0, 20, 40)
SEED = 1


def picture(rng: np.random.Generator, is_dark: bool) -> NDArray[np.uint8]:
    """Noise whose exposure and border say how it was made."""
    image = rng.normal(60 if is_dark else 150, 20, (SIDE, SIDE))
    image[:4] = 0 if is_dark else 220
    return np.clip(image, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 normals, dark but for three; 60 pneumonias, bright but for three; a patient has two images."""
    root = tmp_path_factory.mktemp("styles")
    rng = np.random.default_rng(3)
    for label, name in enumerate(("NORMAL", "PNEUMONIA")):
        for i in range(60):
            path = root / name / f"{name}-{i // 2}" / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), picture(rng, is_dark=(label == 0) != (i in ODD)))
    return root


def test_images_with_the_other_class_s_style_are_held_out_with_all_of_their_patient(folder: Path) -> None:
    found = hold_out(split(read_samples(folder), SEED), folder)
    against = {sample.path for sample in found.manifest.samples if sample.style == "against"}
    assert against >= {f"{name}/{name}-{i // 2}/{i}.png" for name in ("NORMAL", "PNEUMONIA") for i in ODD}
    assert len(against) <= 2 * len(ODD) + 4  # few are taken for odd that are not
    assert sum(counts["against"] for counts in found.counts.values()) == len(against)
    assert sum(counts["usual"] for counts in found.counts.values()) == 120 - len(against)
    assert 0.7 < found.separation.value < 1.0
    tested = found.manifest.of("test")
    assert against <= {sample.path for sample in tested}
    odd_patients = {sample.patient for sample in tested if sample.style == "against"}
    assert len([sample for sample in tested if sample.patient in odd_patients]) == 2 * len(odd_patients)
    assert {sample.patient for sample in tested} > odd_patients  # the patients that the seed dealt stay too
    patients = [{sample.patient for sample in found.manifest.of(name)} for name in ("train", "validation", "test")]
    assert sum(map(len, patients)) == len(set.union(*patients))


def test_a_share_of_the_odd_ones_may_stay_in_training(folder: Path) -> None:
    whole, half = (hold_out(split(read_samples(folder), SEED), folder, share) for share in (1.0, 0.5))
    odd = {s.group for s in whole.manifest.samples if s.style == "against"}
    tested = {s.group for s in half.manifest.of("test")} & odd
    assert len(odd) / 2 - 1 <= len(tested) < len(odd)
    assert {s.group for s in half.manifest.of("train")} & odd


def test_a_style_stands_in_the_manifest_and_its_digest(folder: Path, tmp_path: Path) -> None:
    plain = split(read_samples(folder), SEED)
    write_manifest(hold_out(plain, folder).manifest, tmp_path / "styles.csv")
    again = read_manifest(tmp_path / "styles.csv")
    assert {sample.style for sample in again.samples} == {"usual", "against"}
    assert again.digest != plain.digest
    stated = split(read_samples(folder, tmp_path / "styles.csv"), 5)
    assert {s.path for s in stated.of("test")} == {s.path for s in again.of("test")}
    assert {s.style for s in stated.of("test")} == {"usual", "against"}


def test_what_was_left_out_stays_out(folder: Path) -> None:
    dealt = split(read_samples(folder), SEED)
    out = {"NORMAL/NORMAL-0/0.png", "NORMAL/NORMAL-0/1.png"}
    left = Manifest(tuple(replace(s, split="left_out") if s.path in out else s for s in dealt.samples), 0)
    found = hold_out(left, folder)
    assert {(s.split, s.style) for s in found.manifest.samples if s.path in out} == {("left_out", "")}


def test_too_few_patients_are_refused() -> None:
    images = np.zeros((8, SIDE, SIDE), np.uint8)
    with pytest.raises(BadData, match="at least 5 patients of each class"):
        propensities([describe(image) for image in images], np.array([0, 1] * 4), ["a", "b"] * 4)


def test_a_description_is_finite_for_flat_and_tiny_images() -> None:
    for image in (np.zeros((224, 224), np.uint8), np.full((9, 16), 255, np.uint8)):
        assert np.isfinite(describe(image)).all()


def test_speaking_against_depends_on_the_label() -> None:
    found = resembles_other_class(np.array([0.9, 0.9, 0.1, 0.1]), np.array([0, 1, 0, 1]))
    assert found.tolist() == [True, False, False, True]


def test_style_balanced_batches_break_the_tie_between_style_and_label() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 5000)
    is_bright = rng.random(10000) < np.where(labels == 1, 0.9, 0.1)
    propensity = np.where(is_bright, 0.9, 0.1)
    drawn = style_balanced_batches(labels, 32, rng, propensity).ravel()
    assert np.mean(labels[drawn]) == 0.5
    shares = [is_bright[drawn][labels[drawn] == label].mean() for label in (0, 1)]
    assert abs(shares[0] - shares[1]) < 0.05
    assert abs(shares[0] - 0.5) < 0.05


def test_no_image_is_drawn_much_more_often_than_its_cap() -> None:
    labels = np.repeat([0, 1], 1000)
    propensity = np.where(labels == 1, 1.0, 0.0)
    propensity[0] = 1.0  # one normal that looks wholly like pneumonia
    drawn = np.concatenate(
        [style_balanced_batches(labels, 32, np.random.default_rng(i), propensity) for i in range(40)]
    )
    counts = np.bincount(drawn.ravel(), minlength=2000)[:1000]
    assert RAREST / 2 < counts[0] / counts[1:].mean() < RAREST * 2


def test_style_balanced_batches_need_both_classes() -> None:
    with pytest.raises(BadData, match="no image of class 0"):
        style_balanced_batches(np.ones(8, np.int64), 4, np.random.default_rng(0), np.full(8, 0.5))
