"""The sample inbox reads back as its README describes it."""

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from worker.errors import NotAnImage, Rejected, Truncated
from worker.imaging.image_file import read_display, read_instance
from worker.imaging.instance import Container, Instance

DATA = Path(__file__).parents[1] / "data"
FILES = sorted((DATA / "inbox").iterdir())
BROKEN = {"rosa_truncated.dcm", "report.txt"}


def instances() -> dict[str, Instance]:
    return {path.name: read_instance(path.read_bytes()) for path in FILES if path.name not in BROKEN}


def test_every_picture_is_read_and_its_air_is_dark() -> None:
    for path in FILES:
        if path.name in BROKEN:
            continue
        pixels = read_display(path.read_bytes()).pixels
        instance = read_instance(path.read_bytes())
        assert pixels.shape == (instance.rows, instance.columns)
        assert pixels.std() > 20, path.name
        if path.name not in {"olga_hand.dcm", "anna_explicit_again.dcm"}:
            border = np.concatenate([pixels[:, :3].ravel(), pixels[:, -3:].ravel()])
            assert np.median(border) < np.median(pixels), path.name


def test_the_studies_are_as_described() -> None:
    found = instances()
    assert len(FILES) == 20
    assert len({i.study_uid for i in found.values()}) == 16
    assert found["hugo_ap.dcm"].study_uid == found["hugo_pa.dcm"].study_uid
    assert {found["hugo_ap.dcm"].view, found["hugo_pa.dcm"].view} == {"AP", "PA"}
    assert found["olga_hand.dcm"].body_part == "HAND"
    assert found["paul_lateral.dcm"].view == "LL"
    assert found["greta_monochrome1_12_bit.dcm"].photometric_interpretation == "MONOCHROME1"
    assert found["anna_explicit.dcm"] == found["anna_explicit_again.dcm"]
    assert Counter(i.container for i in found.values()) == {Container.DICOM: 12, Container.RASTER: 6}
    assert {i.transfer_syntax_uid for i in found.values() if i.container is Container.DICOM} == {
        "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.70",
        "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90",
    }  # fmt: skip
    ages = [i.age_years for i in found.values() if i.container is Container.DICOM]
    assert all(age is not None and 1 <= age <= 5 for age in ages)


@pytest.mark.parametrize(("name", "error"), [("rosa_truncated.dcm", Truncated), ("report.txt", NotAnImage)])
def test_the_broken_files_are_rejected_with_their_codes(name: str, error: type[Rejected]) -> None:
    with pytest.raises(error) as caught:
        read_instance((DATA / "inbox" / name).read_bytes())
    if isinstance(caught.value, Truncated):
        instance = caught.value.instance
        assert isinstance(instance, Instance)
        assert instance.accession_number == "ACC-0011"


def test_labels_cover_the_inbox_and_are_balanced() -> None:
    with (DATA / "labels.csv").open(newline="") as lines:
        labels = {row["file"]: row["label"] for row in csv.DictReader(lines)}
    assert set(labels) == {p.name for p in FILES} - {"report.txt", "anna_explicit_again.dcm"}
    counts = Counter(label for label in labels.values() if label)
    assert counts == {"normal": 8, "pneumonia": 7}


def test_the_samples_stay_below_the_size_agreed() -> None:
    assert sum(path.stat().st_size for path in FILES) < 3_000_000
