"""Public DICOM files of other makers: what each gives. Skipped where the files are missing.

`SCREENING_SHARED` names the folder that holds `data/dicom`; the default is `../shared` beside the checkout.
"""

import os
from pathlib import Path

import numpy as np
import pytest

from worker.errors import MissingElement, NotAnImage, Rejected, UnsupportedPixels
from worker.imaging.image_file import read_display, read_instance, stored_digest
from worker.imaging.instance import Instance

CHECKOUT = Path(__file__).parents[2]
DICOM = Path(os.environ.get("SCREENING_SHARED", CHECKOUT.parent / "shared")) / "data" / "dicom"

pytestmark = pytest.mark.skipif(not DICOM.is_dir(), reason=f"{DICOM} is absent: set SCREENING_SHARED")

#: file -> modality, body part, view, photometric interpretation, columns, rows, notes of the display
READABLE = {
    "chest/no_preamble_mono1.dcm": ("CR", "CHEST", "PA", "MONOCHROME1", 440, 440, ()),
    "chest/test1.dcm": ("DX", "CHEST", None, "MONOCHROME2", 1024, 1024, ("voi=none",)),
    "chest/test2.dcm": ("DX", "CHEST", None, "MONOCHROME2", 1024, 1024, ("voi=none",)),
    "chest/test3.dcm": ("DX", "CHEST", None, "MONOCHROME2", 1024, 1024, ("voi=none",)),
    "odd/CR-ModalitySequenceLUT.dcm": ("CR", None, None, "MONOCHROME1", 1976, 1576, ("voi=none",)),
    "wg04/MG1_J2KI": ("RG", "BREAST", "MLO", "MONOCHROME2", 3064, 4664, ()),
    "wg04/RG1_J2KI": ("CR", "CHEST", "PA", "MONOCHROME1", 1841, 1955, ()),
    "wg04/RG1_JLSN": ("CR", "CHEST", "PA", "MONOCHROME1", 1841, 1955, ()),
} | {
    f"wg04/RG{number}_{kind}": row
    for number, row in (
        (2, ("CR", "HIP", None, "MONOCHROME2", 1760, 2140, ())),
        (3, ("CR", "EXTREMITY", "AP", "MONOCHROME1", 1760, 1760, ())),
    )
    for kind in ("J2KI", "J2KR", "JLSL", "JLSN", "JPLL", "JPLY", "RLE")
}
#: file -> what reading its pixels raises, and whether its header still names a study
REJECTED: dict[str, tuple[type[Rejected], bool]] = {
    "odd/JLSL_16_15_1_1F.dcm": (MissingElement, False),  # no study and series UID
    "odd/emri_small_jpeg_2k_lossless_too_short.dcm": (UnsupportedPixels, True),  # ten frames
    "odd/html_page.dcm": (NotAnImage, False),
}


def test_every_file_at_hand_is_described_here() -> None:
    assert {str(p.relative_to(DICOM)) for p in DICOM.rglob("*") if p.is_file()} == set(READABLE) | set(REJECTED)


@pytest.mark.parametrize("name", READABLE)
def test_header_and_display(name: str) -> None:
    data = (DICOM / name).read_bytes()
    i = read_instance(data)
    shown = read_display(data)
    found = (i.modality, i.body_part, i.view, i.photometric_interpretation, i.columns, i.rows, shown.notes)
    assert found == READABLE[name]
    assert shown.pixels.shape == (i.rows, i.columns)
    assert np.ptp(shown.pixels) > 200


@pytest.mark.parametrize("name", REJECTED)
def test_rejections(name: str) -> None:
    data = (DICOM / name).read_bytes()
    error, names_a_study = REJECTED[name]
    with pytest.raises(error):
        read_display(data)
    if names_a_study:
        assert isinstance(read_instance(data), Instance)


def test_an_age_without_unit_is_unknown() -> None:
    instance = read_instance((DICOM / "chest/test1.dcm").read_bytes())
    assert instance.age_years is None
    assert instance.notes == ("age=malformed",)


@pytest.mark.parametrize("number", [2, 3])
def test_one_picture_in_four_lossless_syntaxes(number: int) -> None:
    files = [(DICOM / f"wg04/RG{number}_{kind}").read_bytes() for kind in ("J2KR", "JLSL", "JPLL", "RLE")]
    assert len({stored_digest(data) for data in files}) == 1
    first = read_display(files[0]).pixels
    for kind in ("J2KI", "JLSN", "JPLY"):
        lossy = read_display((DICOM / f"wg04/RG{number}_{kind}").read_bytes()).pixels
        assert np.abs(lossy.astype(int) - first).mean() < 2.0


@pytest.mark.parametrize(
    ("name", "air", "bone"),
    [  # (rows, columns) beside the patient or in the lungs, and in the spine or below the diaphragm
        ("chest/no_preamble_mono1.dcm", (slice(400, 440), slice(425, 440)), (slice(390, 430), slice(190, 240))),
        ("wg04/RG1_J2KI", (slice(100, 300), slice(10, 60)), (slice(1500, 1800), slice(850, 1000))),
        ("wg04/RG3_JLSL", (slice(300, 1200), slice(480, 560)), (slice(300, 900), slice(830, 850))),
    ],
)
def test_air_is_dark_in_monochrome1(name: str, air: tuple[slice, slice], bone: tuple[slice, slice]) -> None:
    pixels = read_display((DICOM / name).read_bytes()).pixels
    assert pixels[air].mean() + 60 < pixels[bone].mean()
