"""Labels and tables that are wrong about ordinary pixels: the picture is right, and notes say what was assumed."""

from typing import Any

import cv2
import numpy as np
import pytest
from pydicom.dataset import Dataset

from tests import phantoms
from tests.phantoms import FULL, Pixels, dicom_file, picture, window
from worker.imaging.image_file import read_display

PICTURE = picture(96, 128)
GREY = (PICTURE >> 4).astype(np.uint8)
SHOWN = read_display(dicom_file(PICTURE, bits=12, **FULL)).pixels


def lut(entries: Any, first: int = 0, bits: int = 12, kind: str = "<u2") -> list[Dataset]:
    item = Dataset()
    item.LUTDescriptor, item.LUTData = [len(entries), first, bits], np.asarray(entries, kind).tobytes()
    item["LUTDescriptor"].VR, item["LUTData"].VR = "US", "OW"
    return [item]


@pytest.mark.parametrize("entries", [np.zeros(4096), np.full(4096, 2000)])
def test_a_voi_lut_of_one_value_gives_way_to_the_window(entries: Any) -> None:
    shown = read_display(dicom_file(PICTURE, bits=12, VOILUTSequence=lut(entries), **FULL))
    assert np.array_equal(shown.pixels, SHOWN)
    assert "voi_lut=misses_picture" in shown.notes


def test_a_voi_lut_that_begins_beyond_all_values_gives_way_to_the_window() -> None:
    shown = read_display(dicom_file(PICTURE, bits=12, VOILUTSequence=lut(np.arange(4096), first=60000), **FULL))
    assert np.array_equal(shown.pixels, SHOWN)


@pytest.mark.parametrize("sequence", ["VOILUTSequence", "ModalityLUTSequence"])
def test_a_table_whose_bytes_were_not_turned_with_the_file(sequence: str) -> None:
    curve = np.rint(4095 * (np.arange(4096) / 4095) ** 0.7)
    tables: list[dict[str, Any]] = [{sequence: lut(curve, kind=kind)} for kind in ("<u2", ">u2")]
    right, wrong = (dicom_file(PICTURE, bits=12, **table) for table in tables)
    assert np.array_equal(read_display(wrong).pixels, read_display(right).pixels)
    assert "lut_byte_order=exchanged" in read_display(wrong).notes
    assert "lut_byte_order=exchanged" not in read_display(right).notes


def test_a_table_of_steps_and_one_of_bytes_are_as_they_are() -> None:
    for entries in (np.repeat([0, 300, 700, 4095], 1024), 4095 - np.arange(4096), (np.arange(4096) > 2000) * 4095):
        assert (
            "lut_byte_order=exchanged"
            not in read_display(dicom_file(PICTURE, bits=12, VOILUTSequence=lut(entries))).notes
        )


@pytest.mark.parametrize("bits", [1, 2, 4, 6])
def test_a_picture_that_is_deeper_than_bits_stored_by_much(bits: int) -> None:
    fine = picture(192, 256)
    shown = read_display(dicom_file(fine, bits=bits, **FULL))
    assert np.array_equal(shown.pixels, read_display(dicom_file(fine, bits=12, **FULL)).pixels)
    assert f"bits_stored=12 (said: {bits})" in shown.notes


@pytest.mark.parametrize("entries", [np.arange(256) * 16, np.arange(256) * 4])
def test_a_palette_that_would_be_all_but_black_is_scaled_by_the_bits_it_uses(entries: Any) -> None:
    words = entries.astype("<u2").tobytes()
    tables: dict[str, Any] = {}
    for colour in ("Red", "Green", "Blue"):
        tables[f"{colour}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        tables[f"{colour}PaletteColorLookupTableData"] = words
    shown = read_display(dicom_file(GREY, PhotometricInterpretation="PALETTE COLOR", **tables))
    assert np.abs(shown.pixels.astype(int) - GREY).max() <= 1
    assert any(note.startswith("palette_bits=") for note in shown.notes)


def tinted(strength: int) -> Pixels:
    """A radiograph in RGB with a warm tone."""
    rgb = np.repeat(picture(192, 256, bits=8)[..., None], 3, 2).astype(int)
    rgb[..., 0] += strength
    rgb[..., 2] -= strength
    return np.asarray(np.clip(rgb, 0, 255), np.uint8)


def by_planes(colour: Pixels, said: int, **elements: Any) -> bytes:
    """Samples plane after plane, under this Planar Configuration."""
    turned = np.ascontiguousarray(np.moveaxis(colour, 2, 0)).reshape(colour.shape)
    return dicom_file(turned, PlanarConfiguration=said, **elements)


@pytest.mark.parametrize("strength", [3, 20])
def test_a_tinted_radiograph_is_the_same_whatever_planar_configuration_says(strength: int) -> None:
    colour = tinted(strength)
    right = cv2.cvtColor(colour, cv2.COLOR_RGB2GRAY)
    for said in (0, 1):
        planes = read_display(by_planes(colour, said))
        pixels = read_display(dicom_file(colour, PlanarConfiguration=said))
        assert np.array_equal(planes.pixels, right)
        assert np.array_equal(pixels.pixels, right)
        assert ("planar_configuration=1 (said: 0)" in planes.notes) is (said == 0)
        assert ("planar_configuration=0 (said: 1)" in pixels.notes) is (said == 1)


def test_a_coloured_picture_is_read_as_its_header_says() -> None:
    """Neither its colours nor its thirds are alike."""
    colour = np.dstack([np.roll(picture(192, 256, bits=8), 61 * turn, turn % 2) for turn in range(3)])
    right = cv2.cvtColor(np.ascontiguousarray(colour), cv2.COLOR_RGB2GRAY)
    assert np.array_equal(read_display(by_planes(colour, 1)).pixels, right)
    assert np.array_equal(read_display(dicom_file(colour, PlanarConfiguration=0)).pixels, right)


def test_an_ordinary_window_beside_no_table_is_as_before() -> None:
    assert read_display(dicom_file(PICTURE, bits=12, **window(2048, 4096))).notes == ()


@pytest.mark.parametrize("syntax", [phantoms.EXPLICIT_LITTLE, phantoms.IMPLICIT_LITTLE])
def test_what_is_said_to_be_deflated_and_is_not_is_read_as_it_is(syntax: str) -> None:
    plain = dicom_file(PICTURE, syntax, bits=12, **FULL)
    data = phantoms.declare_syntax(plain, phantoms.DEFLATED)
    assert np.array_equal(read_display(data).pixels, read_display(plain).pixels)
