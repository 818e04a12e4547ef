"""Hostile headers: whatever an element holds, the result is an Instance or a Rejected, and quickly."""

import itertools
import struct
import zlib
from time import process_time
from typing import Any

import imagecodecs
import numpy as np
import pytest
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset

from tests.phantoms import DEFLATED, EXPLICIT_LITTLE, FULL, IMPLICIT_LITTLE, dicom_file, picture
from worker.errors import MissingElement, Rejected, TooLarge, Undecodable, UnsupportedPixels
from worker.imaging.image_file import read_display, read_instance
from worker.imaging.instance import Instance
from worker.imaging.pyramid import Pyramid

KEYWORDS = (
    *("SpecificCharacterSet", "SOPClassUID", "SOPInstanceUID", "StudyDate", "StudyTime", "AccessionNumber", "Modality"),
    *("Manufacturer", "ViewCodeSequence", "PatientID", "PatientBirthDate", "PatientAge", "BodyPartExamined"),
    *("ViewPosition", "StudyInstanceUID", "SeriesInstanceUID", "SamplesPerPixel", "PhotometricInterpretation"),
    *("NumberOfFrames", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
    *("PixelPaddingValue", "WindowCenter", "WindowWidth", "RescaleIntercept", "RescaleSlope", "VOILUTFunction"),
    *(
        "RedPaletteColorLookupTableDescriptor",
        "RedPaletteColorLookupTableData",
        "VOILUTSequence",
        "PresentationLUTShape",
    ),
)
LONG_VRS = (b"OB", b"OW", b"SQ", b"UN", b"UT")
VRS = (
    *LONG_VRS,
    b"AS",
    b"AT",
    b"CS",
    b"DA",
    b"DS",
    b"FD",
    b"IS",
    b"LO",
    b"PN",
    b"SS",
    b"TM",
    b"UI",
    b"UL",
    b"US",
    b"ZZ",
)
ITEM, SEQUENCE_END = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0\0\0\0\0"
EMPTY_ITEM = ITEM + bytes(4)


def element(keyword: str, vr: bytes, value: bytes) -> bytes:
    """One element in explicit VR little endian."""
    tag = tag_for_keyword(keyword) or 0
    value += b"\0" * (len(value) % 2)
    length = b"\0\0" + struct.pack("<I", len(value)) if vr in LONG_VRS else struct.pack("<H", len(value))
    return struct.pack("<HH", tag >> 16, tag & 0xFFFF) + vr + length + value


def long_element(keyword: str, value: bytes) -> bytes:
    """One element in implicit VR little endian."""
    tag = tag_for_keyword(keyword) or 0
    return struct.pack("<HHI", tag >> 16, tag & 0xFFFF, len(value)) + value


def spliced(data: bytes, keyword: str, replacement: bytes) -> bytes:
    """The file with these bytes in place of an element."""
    tag = tag_for_keyword(keyword) or 0
    at = data.index(struct.pack("<HH", tag >> 16, tag & 0xFFFF), 132)
    is_explicit = data[at + 4 : at + 6].isalpha()
    length = int.from_bytes(data[at + 6 : at + 8] if is_explicit else data[at + 4 : at + 8], "little")
    return data[:at] + replacement + data[at + 8 + length :]


NASTY = (
    b"1e30", b"-1e308", b"nan", b"\\", b"1\\2\\3", b"\xff\xfe\xfd", b"\x1b$B$3\x1b(B", b"../../passwd", b"4294967296",
    struct.pack("<d", 1e300), ITEM + struct.pack("<I", 12) + element("Modality", b"CS", b"DOE^"), EMPTY_ITEM + ITEM,
    ITEM + struct.pack("<I", 8) + EMPTY_ITEM,
)  # fmt: skip


@pytest.mark.parametrize("keyword", KEYWORDS)
def test_any_value_under_any_vr_is_an_instance_or_a_rejection(keyword: str) -> None:
    empty: dict[str, Any] = {} if keyword.startswith("SOP") else {keyword: [] if keyword.endswith("Sequence") else None}
    base = dicom_file(picture(bits=8), EXPLICIT_LITTLE, **empty)
    for vr, value in itertools.product(VRS, NASTY):
        data = spliced(base, keyword, element(keyword, vr, value))
        try:
            instance = read_instance(data)
            read_display(data)
        except Rejected as error:
            if not isinstance(error.instance, Instance):
                continue
            instance = error.instance
        # what a 32-bit column and a text column of any database take
        assert all(abs(n) < 2**31 for n in (instance.rows, instance.columns)), (vr, value)
        for text in (instance.study_uid, instance.modality, instance.patient_id, instance.accession_number):
            assert text is None or (len(text) <= 64 and text.isprintable()), (vr, value)


def test_a_uid_of_two_values_names_nothing() -> None:
    with pytest.raises(MissingElement, match="StudyInstanceUID"):
        read_instance(dicom_file(picture(), StudyInstanceUID=["1.2.3", "1.2.4"]))


def test_a_value_of_millions_of_numbers_is_not_parsed() -> None:
    base = dicom_file(picture(), IMPLICIT_LITTLE, bits=12, WindowCenter="1", WindowWidth="2")
    data = spliced(base, "WindowCenter", long_element("WindowCenter", b"1\\" * 5_000_000))
    before = process_time()
    shown = read_display(data)
    assert process_time() - before < 5, "half a minute, once"
    assert "window_center=malformed" in shown.notes
    assert "voi=none" in shown.notes


def empty_elements(count: int) -> bytes:
    """Private elements without a value, each with a tag of its own."""
    raw = np.zeros((count, 4), "<u2")
    raw[:, 0], raw[:, 1] = 0x0029 + 2 * (np.arange(count) // 65536), np.arange(count) % 65536
    raw[:, 2] = int.from_bytes(b"LO", "little")
    return raw.tobytes()


@pytest.mark.parametrize("case", ["elements", "items", "fragments", "deflated"])
def test_millions_of_elements_are_refused_before_they_are_parsed(case: str) -> None:
    many = 1_000_000
    if case == "fragments":
        data = dicom_file(picture(), "1.2.840.10008.1.2.4.80", bits=12, pixel_data=EMPTY_ITEM * many)
    elif case == "items":
        opened = b"\x29\x00\x10\x00SQ\0\0\xff\xff\xff\xff"
        data = spliced(dicom_file(None, Laterality=""), "Laterality", opened + EMPTY_ITEM * many + SEQUENCE_END)
    elif case == "elements":
        data = spliced(dicom_file(None, Laterality=""), "Laterality", empty_elements(many))
    else:
        data = dicom_file(picture(), DEFLATED)
        start = 144 + int.from_bytes(data[140:144], "little")
        data = data[:start] + zlib.compress(empty_elements(many))[2:-4]
    before = process_time()
    with pytest.raises(TooLarge, match="no radiograph"):
        read_instance(data)
    assert process_time() - before < 10


@pytest.mark.parametrize("samples", [1, 3, 4])
def test_a_jpeg_of_thousands_of_scans_is_not_decoded(samples: int) -> None:
    pixels = picture(bits=8) if samples == 1 else np.dstack([picture(bits=8)] * samples)
    space = "CMYK" if samples == 4 else None
    jpeg = bytes(imagecodecs.jpeg8_encode(pixels, colorspace=space, outcolorspace=space))
    scan = b"\xff\xda\x00\x08\x01\x01\x00\x01\x3f\x00" + b"\x55" * 4
    with pytest.raises(Undecodable, match="scans"):
        read_display(jpeg[:-2] + scan * 2000 + b"\xff\xd9")
    assert read_display(jpeg).pixels.shape == picture(bits=8).shape


MANY = 150_000
JPEG = bytes(imagecodecs.jpeg8_encode(picture(bits=8)))
PNG = bytes(imagecodecs.png_encode(picture(bits=8)))
TEXT = b"\0\0\0\4tEXta\0bc" + zlib.crc32(b"tEXta\0bc").to_bytes(4, "big")


@pytest.mark.parametrize(
    "data",
    [
        JPEG[:2] + b"\xff\xe2\0\2" * MANY + JPEG[2:],
        JPEG[:-2] + b"\xff\xdc\0\4\0\0" * MANY + JPEG[-2:],
        PNG[:33] + TEXT * MANY + PNG[33:],
    ],
    ids=["before the scan", "after the scan", "png"],
)
def test_an_image_of_thousands_of_segments_is_refused_before_it_is_decoded(data: bytes) -> None:
    with pytest.raises(TooLarge, match="100,000 segments: it is no radiograph"):
        read_instance(data)


def test_a_codestream_of_thousands_of_comments_is_refused() -> None:
    frame = bytes(imagecodecs.jpeg2k_encode(picture(), level=0, codecformat="j2k", bitspersample=12))
    at = 4 + int.from_bytes(frame[4:6], "big")
    crowded = frame[:at] + b"\xff\x64\0\4\0\1" * MANY + frame[at:]
    with pytest.raises(TooLarge, match="segments"):
        read_display(dicom_file(picture(), "1.2.840.10008.1.2.4.90", bits=12, frame=crowded))


def test_segments_of_an_ordinary_number_and_bytes_of_fill_are_no_fault() -> None:
    filled = JPEG[:2] + b"\xff\xe2\0\2" * 1000 + b"\xff" * 1_000_000 + JPEG[2:]
    assert np.array_equal(read_display(filled).pixels, read_display(JPEG).pixels)
    assert np.array_equal(read_display(PNG[:33] + TEXT * 100 + PNG[33:]).pixels, picture(bits=8))


@pytest.mark.parametrize("bits", [-3, 17, 48, 32767])
@pytest.mark.parametrize("reduction", [None, Pyramid(64)], ids=["full", "pyramid"])
def test_bits_that_no_sample_has_are_refused_before_a_table_is_made_for_them(
    bits: int, reduction: Pyramid | None
) -> None:
    extra = Dataset()
    extra.add_new("BitsStored", "SS", bits)
    data = dicom_file(picture(), bits=12, extra=extra, PixelPaddingValue=0, PixelRepresentation=1, **FULL)
    with pytest.raises(UnsupportedPixels, match=f"{bits} bits stored in 16 allocated"):
        read_display(data, reduction=reduction)
