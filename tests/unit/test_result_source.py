"""Patient and study of a result object are those that intake read, whatever faults the source's writer made."""

import struct

import pytest

from tests.phantoms import DEFLATED, EXPLICIT_BIG, FULL, IMPLICIT_LITTLE, STUDY_UID, dicom_file, picture
from worker.dicom.send.source import source_header
from worker.errors import NotAnImage

PICTURE = picture()


def named(data: bytes) -> tuple[str, str, str]:
    header = source_header(data, STUDY_UID)
    return str(header.PatientID), str(header.PatientName), str(header.AccessionNumber)


@pytest.mark.parametrize("syntax", [IMPLICIT_LITTLE, EXPLICIT_BIG, DEFLATED])
def test_they_are_found_in_every_encoding(syntax: str) -> None:
    assert named(dicom_file(PICTURE, syntax, bits=12)) == ("P-1", "SAMPLE^PHANTOM", "A-1")
    assert named(dicom_file(PICTURE, preamble=False, bits=12)) == ("P-1", "SAMPLE^PHANTOM", "A-1")


@pytest.mark.parametrize("vr", [b"??", b"\0\0", b"  "])
def test_a_private_element_of_no_vr_hides_no_patient(vr: bytes) -> None:
    data = dicom_file(PICTURE, bits=12, **FULL)
    at = data.index(b"\x10\0\x10\0PN")
    private = struct.pack("<HH", 0x0009, 0x1001) + vr + struct.pack("<H", 4) + b"abcd"
    assert named(data[:at] + private + data[at:]) == ("P-1", "SAMPLE^PHANTOM", "A-1")


def test_what_is_no_dicom_object_names_nobody() -> None:
    with pytest.raises(NotAnImage):
        source_header(b"\x89PNG" * 100, STUDY_UID)
