"""The audit finds copies with other bytes, and file properties that predict the class."""

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from trainer.data.audit import audit
from trainer.data.folders import read_samples
from trainer.data.manifest import Manifest, Sample
from trainer.data.near_duplicates import hash_picture, near_duplicates
from trainer.data.shortcuts import is_shortcut, probe, quality_of, quantisation_table, separation, separations
from trainer.data.split import split
from trainer.statistics.metrics import Measured

Image = NDArray[np.uint8]
INBOX = Path(__file__).parents[1] / "data" / "inbox"


def chest(seed: int, size: int = 160) -> Image:
    """Two dark lungs in a bright body, with structure of its own."""
    rng = np.random.default_rng(seed)
    image = np.zeros((size, size), np.float32)
    centre = size // 2
    cv2.ellipse(image, (centre, centre), (int(size * 0.45), int(size * 0.48)), 0, 0, 360, 170, -1)
    for side in (-1, 1):
        x = centre + side * int(size * rng.uniform(0.18, 0.24))
        cv2.ellipse(image, (x, centre), (int(size * 0.13), int(size * rng.uniform(0.28, 0.36))), 0, 0, 360, 60, -1)
    texture = cv2.GaussianBlur(rng.normal(0, 1, (size, size)).astype(np.float32), (0, 0), size / 24)
    return np.asarray(np.clip(image + 400 * texture, 0, 255), np.uint8)


def encoded(image: Image, quality: int) -> bytes:
    return bytes(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1])


def test_copies_are_found_through_compression_size_and_exposure_and_other_chests_are_not() -> None:
    original = chest(0)
    compressed = cv2.imdecode(np.frombuffer(encoded(original, 40), np.uint8), cv2.IMREAD_GRAYSCALE)
    smaller = cv2.resize(original, (97, 97), interpolation=cv2.INTER_AREA)
    brighter = np.asarray(np.clip(original * 0.8 + 30, 0, 255), np.uint8)
    images = [original, *(chest(seed) for seed in range(1, 8)), np.asarray(compressed, np.uint8), smaller, brighter]
    pairs = {(pair.first, pair.second) for pair in near_duplicates([hash_picture(image) for image in images])}
    assert pairs == {(0, 8), (0, 9), (0, 10), (8, 9), (8, 10), (9, 10)}


def test_blank_images_and_none_are_compared_without_harm() -> None:
    blank = np.zeros((50, 40), np.uint8)
    assert near_duplicates([hash_picture(blank), hash_picture(chest(1))]) == []
    assert near_duplicates([]) == []


@pytest.mark.parametrize("quality", [30, 50, 75, 92, 100])
def test_the_quality_is_read_from_the_table(quality: int) -> None:
    table = quantisation_table(encoded(chest(0), quality))
    assert table is not None
    assert quality_of(table) == pytest.approx(quality, abs=1.5)


def test_what_is_no_jpeg_or_ends_early_has_no_quality() -> None:
    assert quantisation_table(bytes(cv2.imencode(".png", chest(0))[1])) is None
    assert quantisation_table(b"\xff\xd8\xff") is None
    assert math.isnan(probe(b"\x89PNG", chest(0))["JPEG quality"])


def test_the_border_is_measured_apart_from_the_inside() -> None:
    image = np.full((100, 80), 200, np.uint8)
    image[:4] = image[-4:] = 0
    image[:, :4] = image[:, -4:] = 0
    numbers = probe(b"", image)
    assert numbers["border grey"] == 0
    assert numbers["mean grey"] == pytest.approx(200 * 92 * 72 / 8000)
    assert numbers["aspect ratio"] == 0.8


def planted(root: Path, shortcut: str, count: int = 30) -> set[str]:
    """A set whose classes differ in one thing that is no anatomy; returns the probes that call it a shortcut."""
    for i in range(count):
        sick = i % 2 == 1
        image, quality, suffix = chest(i), 80, ".jpg"
        if sick and shortcut == "compression":
            quality = 60
        elif sick and shortcut == "resolution":
            image = cv2.resize(image, (150, 150), interpolation=cv2.INTER_AREA)
        elif sick and shortcut == "aspect":
            image = cv2.resize(image, (190, 135), interpolation=cv2.INTER_AREA)
        elif sick and shortcut == "border":
            image = cv2.copyMakeBorder(image[8:-8, 8:-8], 8, 8, 8, 8, cv2.BORDER_CONSTANT, value=90)
        elif sick and shortcut == "exposure":
            image = np.clip(image.astype(np.int64) + 25, 0, 255).astype(np.uint8)
        elif sick and shortcut == "format":
            suffix = ".png"
        path = root / ("PNEUMONIA" if sick else "NORMAL") / f"p{i}" / f"chest{suffix}"
        path.parent.mkdir(parents=True)
        path.write_bytes(encoded(image, quality) if suffix == ".jpg" else bytes(cv2.imencode(".png", image)[1]))
    found = audit(split(read_samples(root), 0), root)
    assert all(f"shortcut: {name} alone" in " ".join(found.warnings) for name in named(found.shortcuts))
    return named(found.shortcuts)


def named(shortcuts: dict[str, Measured]) -> set[str]:
    return {name for name, auc in shortcuts.items() if is_shortcut(auc)}


@pytest.mark.parametrize(
    ("shortcut", "expected"),
    [
        ("compression", {"JPEG quality", "file size", "bytes per pixel"}),
        ("resolution", {"resolution"}),
        ("aspect", {"aspect ratio"}),
        ("border", {"border grey"}),
        ("exposure", {"mean grey"}),
        ("format", {"file is a JPEG"}),
    ],
)
def test_planted_shortcuts_are_found(tmp_path: Path, shortcut: str, expected: set[str]) -> None:
    assert expected <= planted(tmp_path, shortcut)


def test_where_nothing_was_planted_nothing_is_found(tmp_path: Path) -> None:
    assert planted(tmp_path, "none", count=80) == set()


def test_a_number_that_is_the_same_everywhere_or_unknown_is_left_out() -> None:
    labels = np.array([0, 1, 0, 1])
    rows = [{"same": 1.0, "half": value, "told": float(i)} for i, value in enumerate((math.nan, 2.0, math.nan, 3.0))]
    assert set(separations(labels, rows)) == {"told"}


def test_copies_across_splits_and_labels_are_named_and_broken_files_listed(tmp_path: Path) -> None:
    made = []
    for i, (label, part) in enumerate([(0, "train"), (1, "train"), (0, "test"), (1, "test"), (1, "train")]):
        path = f"{i}.jpg"
        (tmp_path / path).write_bytes(encoded(chest(0 if i in (0, 3) else i), 90 - i))
        made.append(Sample(path, label, str(label), f"p{i}", str(i), f"p{i}", part))
    (tmp_path / "4.jpg").write_bytes(b"no image")
    found = audit(Manifest(tuple(made), 0), tmp_path)
    assert found.near_duplicates == 1
    assert found.near_duplicates_across_splits == found.near_label_conflicts == [["0.jpg", "3.jpg"]]
    assert [fault["path"] for fault in found.unreadable] == ["4.jpg"]
    assert sum("0.jpg, 3.jpg" in warning for warning in found.warnings) == 2


def test_the_compression_shortcut_of_native_kermany_files_shows_in_the_samples() -> None:
    native = [probe(path.read_bytes(), chest(0)) for path in sorted(INBOX.glob("*_native.jpeg"))]
    assert len(native) == 2
    assert max(row["JPEG quality"] for row in native) > min(row["JPEG quality"] for row in native)


def test_a_file_that_is_gone_is_listed_and_the_others_are_audited(tmp_path: Path) -> None:
    (tmp_path / "here.jpeg").write_bytes(encoded(chest(0), 90))
    samples = [Sample("gone.jpeg", 1, "", "a", ""), Sample("here.jpeg", 0, "", "b", "")]
    findings = audit(Manifest(tuple(samples), 0), tmp_path)
    assert findings.unreadable == [
        {"path": "gone.jpeg", "code": "unreadable_file", "message": "No such file or directory"}
    ]


def test_a_reversed_shortcut_is_told_by_how_well_it_separates() -> None:
    assert separation(Measured(0.1, 0.05, 0.15, 60)) == "0.900, reversed"
    assert separation(Measured(0.9, 0.85, 0.95, 60)) == "0.900"
