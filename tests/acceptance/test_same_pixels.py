"""The same picture in every format has the same probability; other pixels under one UID are a visible conflict."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from tests import phantoms
from tests.acceptance.installation import SAMPLES, Installation

BITS = 12


@pytest.fixture(scope="module")
def picture() -> phantoms.Pixels:
    """A real radiograph on a 12-bit scale that it fills."""
    grey = cv2.imread(str(SAMPLES / "ida_8_bit.png"), cv2.IMREAD_UNCHANGED)
    assert grey is not None
    spread = (grey.astype(np.float64) - grey.min()) / (float(grey.max()) - float(grey.min()))
    return np.asarray(np.rint(spread * (2**BITS - 1)), dtype=np.uint16)


def file_of(number: int, pixels: phantoms.Pixels, syntax: str, photometric: str = "MONOCHROME2") -> bytes:
    return phantoms.dicom_file(
        pixels,
        syntax=syntax,
        bits=BITS,
        StudyInstanceUID=f"1.2.3.{number}",
        SeriesInstanceUID=f"1.2.3.{number}.1",
        SOPInstanceUID=f"1.2.3.{number}.1.1",
        PhotometricInterpretation=photometric,
    )


def test_one_probability_in_every_lossless_wrapping(tmp_path: Path, picture: phantoms.Pixels) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    cv2.imwrite(str(inbox / "as.png"), picture)
    for number, syntax in enumerate(phantoms.LOSSLESS):
        (inbox / f"{syntax}.dcm").write_bytes(file_of(number, picture, syntax))
    inverted = np.asarray(2**BITS - 1 - picture, dtype=np.uint16)
    (inbox / "monochrome1.dcm").write_bytes(file_of(99, inverted, phantoms.EXPLICIT_LITTLE, "MONOCHROME1"))
    entries = Installation(tmp_path / "home", {"SCREENING_REDUCED_DECODE": "off"}).json("screen", inbox)
    probability = {Path(entry["sources"][0]).name: entry["probability"] for entry in entries}
    assert len(probability) == len(phantoms.LOSSLESS) + 2
    assert probability.pop("monochrome1.dcm") == pytest.approx(probability["as.png"], abs=1e-3)
    assert list(probability.values()) == pytest.approx([probability["as.png"]] * len(probability), abs=1e-6)


@pytest.mark.slow
def test_conflict_and_reopening(tmp_path: Path, picture: phantoms.Pixels) -> None:
    site = Installation(tmp_path / "home")
    first, other, second = tmp_path / "first.dcm", tmp_path / "other.dcm", tmp_path / "second.dcm"
    first.write_bytes(file_of(1, picture, phantoms.EXPLICIT_LITTLE))
    other.write_bytes(file_of(1, np.ascontiguousarray(picture[:, ::-1]), phantoms.EXPLICIT_LITTLE))
    site.run("screen", first)
    assert "1 conflict" in site.run("screen", other)
    (entry,) = site.json("worklist")
    assert entry["conflict"] == "other_pixels"
    assert entry["band"] in (3, 4)
    kept = site.json("show", "1.2.3.1")
    assert len(kept["images"]) == 2, "both are kept and screened"
    assert entry["probability"] == max(image["probability"] for image in kept["images"])

    second.write_bytes(file_of(1, picture, phantoms.EXPLICIT_LITTLE).replace(b"1.2.3.1.1.1", b"1.2.3.1.1.2"))
    site.run("screen", second)
    kept = site.json("show", "1.2.3.1")
    assert kept["revision"] == 3
    assert len(kept["images"]) == 3
    assert site.json("reconcile")["holds"]
