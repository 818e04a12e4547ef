"""VOI tables, windows and padding as stations get them wrong: the values that the Standard means, and a note."""

import struct
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset

from tests import phantoms
from tests.phantoms import FULL, LOSSLESS, MONO1, Pixels, dicom_file, lut_item, picture, window
from worker.imaging.codec.codestream import Coding
from worker.imaging.codec.resolution import MinimumSize
from worker.imaging.display.pipeline import Display
from worker.imaging.image_file import read_display
from worker.imaging.viewer_data import read_view

PICTURE = picture(96, 128)
SHOWN = read_display(dicom_file(PICTURE, bits=12, **FULL)).pixels


def close(shown: Display, right: Pixels) -> bool:
    """Within one grey level."""
    return shown.pixels.shape == right.shape and bool(np.abs(shown.pixels.astype(int) - right).max() <= 1)


# PS3.3 C.11.2.1.1: entries of fewer or more bits than the third value of the descriptor says


def curve(bits: int, count: int = 4096) -> list[int]:
    return [round(((1 << bits) - 1) * (n / (count - 1)) ** 0.8) for n in range(count)]


@pytest.mark.parametrize("syntax", LOSSLESS)
@pytest.mark.parametrize(("said", "held"), [(16, 12), (16, 10), (12, 10), (16, 14), (12, 16), (8, 12), (10, 12)])
def test_a_voi_lut_is_scaled_by_the_bits_that_its_entries_use(said: int, held: int, syntax: str) -> None:
    entries = curve(held)
    item = lut_item(0, said, entries)
    if syntax == phantoms.EXPLICIT_BIG:
        item[0]["LUTData"].value = np.array(entries, ">u2").tobytes()
    shown = read_display(dicom_file(PICTURE, syntax, bits=12, VOILUTSequence=item))
    assert close(shown, np.rint(np.array(entries)[PICTURE] / (2**held - 1) * 255))
    assert f"voi_lut_bits={held} (said: {said})" in shown.notes


def test_a_table_rounded_up_to_the_next_power_is_still_one_of_10_bits() -> None:
    entries = [round(n / 4) for n in range(4096)]
    assert max(entries) == 1024
    shown = read_display(dicom_file(PICTURE, bits=12, VOILUTSequence=lut_item(0, 12, entries)))
    assert close(shown, np.rint(PICTURE / 4095 * 255))


def test_a_table_of_one_entry_too_few_still_maps_every_value() -> None:
    shown = read_display(dicom_file(PICTURE, bits=12, VOILUTSequence=lut_item(0, 16, list(range(4095)))))
    assert close(shown, np.rint(PICTURE / 4095 * 255))


@pytest.mark.parametrize(
    ("name", "bits", "entries"),
    [
        ("dim_16", 16, [round(40000 * n / 4095) for n in range(4096)]),
        ("bright_8", 8, [n >> 4 for n in range(4096)]),
        ("of_a_part", 16, [round(4095 * n / 999) for n in range(1000)]),
    ],
)
def test_a_legitimate_table_is_scaled_as_it_says(name: str, bits: int, entries: list[int]) -> None:
    """A table may be dim: its largest entry needs all bits, or it maps a part of the values that may occur."""
    shown = read_display(dicom_file(PICTURE, bits=12, VOILUTSequence=lut_item(0, bits, entries)))
    mapped = np.array(entries)[np.minimum(PICTURE, len(entries) - 1)]
    assert close(shown, np.rint(mapped / (2**bits - 1) * 255)), name
    assert shown.notes == ()


def test_the_table_follows_the_modality_lut() -> None:
    """What goes into a VOI LUT comes from the modality LUT: here 0 to 255, so 256 entries are all that may occur."""
    modality = lut_item(0, 8, [n >> 4 for n in range(4096)])
    voi = lut_item(0, 16, [16 * n for n in range(256)])
    shown = read_display(dicom_file(PICTURE, bits=12, ModalityLUTSequence=modality, VOILUTSequence=voi))
    assert close(shown, np.rint((PICTURE >> 4) * 16 / 4095 * 255))


def test_a_table_with_fewer_entries_than_it_says_counts_if_it_maps_every_value() -> None:
    item = lut_item(0, 12, curve(12))
    item[0]["LUTDescriptor"].value = [0, 0, 12]  # 65,536
    shown = read_display(dicom_file(PICTURE, bits=12, VOILUTSequence=item))
    assert close(shown, np.rint(np.array(curve(12))[PICTURE] / 4095 * 255))
    assert "voi_lut_entries=4096 (said: 65536)" in shown.notes


def test_the_second_table_counts_where_the_first_is_of_no_use() -> None:
    items = [*lut_item(0, 99, [1, 2]), *lut_item(0, 12, curve(12))]
    shown = read_display(dicom_file(PICTURE, bits=12, VOILUTSequence=items))
    assert close(shown, np.rint(np.array(curve(12))[PICTURE] / 4095 * 255))
    assert "voi_lut=malformed" in shown.notes


def test_entries_of_a_byte_under_16_bits_said() -> None:
    item = lut_item(0, 16, [0])
    item[0]["LUTDescriptor"].value = [4096, 0, 16]
    item[0]["LUTData"].value = bytes(n >> 4 for n in range(4096))
    assert close(read_display(dicom_file(PICTURE, bits=12, VOILUTSequence=item)), PICTURE >> 4)


# PS3.3 C.11.2.1.2, C.11.2.1.3: windows; see the phantoms for widths


def written(center: str, width: str, **elements: Any) -> bytes:
    """A window written as a station writes it, with the VR DS."""
    data = dicom_file(PICTURE, bits=12, **elements)
    at = data.index(b"\x28\0\x02\x01US")  # High Bit; the window comes behind Pixel Representation
    at = data.index(b"\x28\0\x03\x01US", at) + 10
    spelled = b""
    for number, text in ((0x1050, center), (0x1051, width)):
        value = text.encode() + b" " * (len(text) % 2)
        spelled += struct.pack("<HH2sH", 0x28, number, b"DS", len(value)) + value
    return data[:at] + spelled + data[at:]


NARROW = read_display(dicom_file(PICTURE, bits=12, **window(1600, 2000))).pixels


@pytest.mark.parametrize(
    ("center", "width"),
    [
        ("1600\\auto", "2000\\auto"), ("1600\\", "2000\\"), ("\\1600", "\\2000"), ("auto\\1600", "2000\\2000"),
        ("1600,0", "2000,0"), ("500\\1600", "0\\2000"), ("500\\1600", "-5\\2000"), ("1600\\900", "2000"),
        (" 1600 ", "2000 "),
        ("nan\\1600", "2000\\2000"), ("1600\\inf", "2000\\1e999"), ("1.6e3", "2E3"), ("+1600", "2000.00"),
    ],
)  # fmt: skip
def test_the_first_usable_window_counts(center: str, width: str) -> None:
    content = written(center, width)
    assert np.array_equal(read_display(content).pixels, NARROW)
    first = read_view(content).windows[0]
    assert (first.center, first.width) == (1600, 2000), "a viewer offers it too"


@pytest.mark.parametrize(
    ("center", "width"), [("", ""), ("x", "y"), ("1600", "0"), ("1600", "-1"), ("1600", ""), ("1600\\", "\\9")]
)
def test_without_a_usable_window_it_is_none(center: str, width: str) -> None:
    shown = read_display(written(center, width))
    assert np.array_equal(shown.pixels, read_display(dicom_file(PICTURE, bits=12)).pixels)
    assert "voi=none" in shown.notes


# PS3.3 C.7.5.1.1.2: padding is background


PADDED = PICTURE.copy()
PADDED[PADDED == 0] = 1
PADDED[:, :40] = 0


@pytest.mark.parametrize("syntax", LOSSLESS)
@pytest.mark.parametrize("voi", [{}, FULL], ids=["no_voi", "window"])
@pytest.mark.parametrize("value", [0, 4095, 60])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_is_dark(photometric: str, value: int, voi: dict[str, Any], syntax: str) -> None:
    pixels = np.where(value == PADDED, value - 1 if value else 1, PADDED).astype(np.uint16)
    pixels[:, :40] = value
    shown = read_display(
        dicom_file(pixels, syntax, bits=12, PixelPaddingValue=value, PhotometricInterpretation=photometric, **voi)
    )
    assert (shown.pixels[:, :40] == 0).all()
    alone = dicom_file(np.ascontiguousarray(pixels[:, 40:]), bits=12, PhotometricInterpretation=photometric, **voi)
    assert np.array_equal(shown.pixels[:, 40:], read_display(alone).pixels)


@pytest.mark.parametrize(("value", "limit"), [(0, 50), (50, 0), (4095, 4000), (4000, 4095)])
def test_the_range_limit_lies_on_either_side(value: int, limit: int) -> None:
    low, high = sorted((value, limit))
    padding: dict[str, Any] = {"PixelPaddingValue": value, "PixelPaddingRangeLimit": limit}
    shown = read_display(dicom_file(PICTURE, bits=12, **padding, **MONO1, **FULL))
    inside = (low <= PICTURE) & (high >= PICTURE)
    assert np.array_equal(shown.pixels, np.where(inside, 0, 255 - SHOWN))


def test_a_range_limit_that_spans_the_picture_is_not_believed() -> None:
    """Some stations write a limit of 0 whatever the padding value is."""
    padding: dict[str, Any] = {"PixelPaddingValue": 4095, "PixelPaddingRangeLimit": 0}
    shown = read_display(dicom_file(PICTURE, bits=12, **padding, **FULL))
    assert np.array_equal(shown.pixels, np.where(PICTURE == 4095, 0, SHOWN))
    assert "pixel_padding_range_limit=ignored" in shown.notes


def test_padding_in_signed_pixels_and_under_the_other_vr() -> None:
    signed = (PICTURE.astype(np.int32) - 2048).astype(np.int16)
    signed[:, :40] = -2048
    under_us = Dataset()
    under_us.add_new("PixelPaddingValue", "US", -2048 & 0xFFFF)
    data = dicom_file(signed, bits=12, extra=under_us, **MONO1, **window(0, 4096))
    shown = read_display(data)
    assert (shown.pixels[:, :40] == 0).all()
    assert np.array_equal(shown.pixels[:, 40:], np.where(PICTURE == 0, 0, 255 - SHOWN)[:, 40:])


def test_padding_outside_of_bits_stored_is_dark_and_takes_nothing_from_the_picture() -> None:
    padded = PICTURE.copy()
    padded[:, :40] = 65535
    shown = read_display(dicom_file(padded, bits=12, PixelPaddingValue=65535, **FULL))
    assert (shown.pixels[:, :40] == 0).all()
    assert np.array_equal(shown.pixels[:, 40:], SHOWN[:, 40:])


@pytest.mark.parametrize("syntax", LOSSLESS)
def test_padding_outside_of_bits_stored_in_signed_pixels(syntax: str) -> None:
    signed = (PICTURE.astype(np.int32) - 2048).astype(np.int16)
    signed[:, :40] = -32768
    elements: dict[str, Any] = {"BitsStored": 12, "HighBit": 11, "PixelPaddingValue": -32768, **window(0, 4096)}
    frame = None if syntax in phantoms.NATIVE else phantoms.LOSSLESS_ENCODERS[syntax](signed.view(np.uint16), 16)
    shown = read_display(dicom_file(signed, syntax, frame=frame, **elements))
    assert (shown.pixels[:, :40] == 0).all()
    assert np.array_equal(shown.pixels[:, 40:], SHOWN[:, 40:])


def test_a_picture_of_nothing_but_padding_is_shown_as_it_is() -> None:
    flat = np.full((64, 64), 1000, np.uint16)
    shown = read_display(dicom_file(flat, bits=12, PixelPaddingValue=1000, **FULL))
    assert (shown.pixels == 62).all()
    assert "pixel_padding=ignored" in shown.notes


def test_padding_keeps_its_bounds_when_a_lower_resolution_would_do() -> None:
    data = dicom_file(PADDED, phantoms.JPEG_2000_LOSSLESS, bits=12, PixelPaddingValue=0, **MONO1, **FULL)
    reduced = read_display(data, reduction=MinimumSize(16, 16, frozenset(Coding)))
    assert np.array_equal(reduced.pixels, read_display(data).pixels)


@pytest.mark.parametrize(("center", "width"), [(128, 256), (60000, 100), (-3000, 500), (40, 400)])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_a_window_that_leaves_nothing_to_see_is_none(photometric: str, center: int, width: int) -> None:
    """A default of 8 bits over 12, or of another kind of image."""
    bright = (PICTURE // 2 + 2047) * (PICTURE > 0)
    elements: dict[str, Any] = {"PhotometricInterpretation": photometric}
    data = dicom_file(bright.astype(np.uint16), bits=12, **elements, **window(center, width))
    shown = read_display(data)
    assert np.array_equal(shown.pixels, read_display(dicom_file(bright.astype(np.uint16), bits=12, **elements)).pixels)
    assert {"voi=none", "window=misses_picture"} <= set(shown.notes)
    frame = dicom_file(
        bright.astype(np.uint16), phantoms.JPEG_2000_LOSSLESS, bits=12, **elements, **window(center, width)
    )
    reduced = read_display(frame, reduction=MinimumSize(40, 40, frozenset(Coding)))
    assert np.array_equal(reduced.pixels, shown.pixels)


@pytest.mark.parametrize(("center", "width"), [(2048, 4096), (1000, 1500), (3000, 1500), (2048, 400), (300, 600)])
def test_a_window_of_a_part_of_the_values_is_believed(center: int, width: int) -> None:
    """Also where air, which most of a collimated image is, lies below it."""
    collimated = np.pad(PICTURE // 2 + 1500, 100)
    shown = read_display(dicom_file(collimated.astype(np.uint16), bits=12, **window(center, width)))
    assert "window=misses_picture" not in shown.notes
    bright = ((PICTURE // 2 + 2047) * (PICTURE > 0)).astype(np.uint16)
    assert "window=misses_picture" not in read_display(dicom_file(bright, bits=12, **window(1228, 2457))).notes


@pytest.mark.parametrize(("center", "width"), [(8192, 16384), (4096, 8300), (0, 65536), (6000, 10000)])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_a_window_for_more_bits_than_there_are_is_none(photometric: str, center: int, width: int) -> None:
    elements: dict[str, Any] = {"PhotometricInterpretation": photometric}
    shown = read_display(dicom_file(PICTURE, bits=12, **elements, **window(center, width)))
    assert np.array_equal(shown.pixels, read_display(dicom_file(PICTURE, bits=12, **elements)).pixels)
    assert {"voi=none", "window=misses_picture"} <= set(shown.notes)


def test_a_window_that_is_too_wide_for_the_values_alone_is_believed_and_noted() -> None:
    """Twelve bits of values in sixteen: nothing but the picture speaks against the window."""
    shown = read_display(dicom_file(PICTURE, bits=16, **window(8192, 16384)))
    assert shown.pixels.max() == 64
    assert "window=few_greys" in shown.notes
    for ordinary in (window(2048, 4096), window(2048, 8000)):
        assert "window=few_greys" not in read_display(dicom_file(PICTURE, bits=12, **ordinary)).notes


def test_the_first_usable_slope_counts_and_a_decimal_comma_is_a_point() -> None:
    data = dicom_file(PICTURE, bits=12, RescaleSlope="2.5", RescaleIntercept="-99.5 ", **window(1600, 2000))
    right = read_display(data).pixels
    stored = data.replace(b"DS\4\x002.5 ", b"DS\4\x002,5\\").replace(b"-99.5 ", b"-99,5 ")
    assert stored != data
    shown = read_display(stored)
    assert np.array_equal(shown.pixels, right)
    assert {"rescale_slope=malformed", "rescale_intercept=malformed"} <= set(shown.notes)
