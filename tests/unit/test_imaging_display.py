"""The display pipeline against values worked out by hand from the Standard."""

from typing import Any

import numpy as np
import pytest

from tests.phantoms import (
    EXPLICIT_BIG,
    FULL,
    MONO1,
    NATIVE,
    PHANTOMS,
    Phantom,
    dicom_file,
    lut_item,
    picture,
    rescale,
    window,
)
from worker.imaging.image_file import read_display


@pytest.mark.parametrize("phantom", PHANTOMS, ids=lambda p: p.name)
def test_stored_values_come_out_as_the_standard_says(phantom: Phantom) -> None:
    shown = read_display(dicom_file(phantom.pixels(), bits=phantom.bits, **phantom.elements))
    assert shown.pixels.dtype == np.uint8
    assert tuple(shown.pixels[0]) == phantom.expected
    assert np.array_equal(shown.pixels[0], shown.pixels[1])
    if phantom.note is None:
        assert shown.notes == ()
    else:
        assert phantom.note in shown.notes


@pytest.mark.parametrize(
    ("of_mono2", "of_mono1"),
    [
        ({}, {}),
        (window(1500, 900), window(4095 - 1500 + 1, 900)),
        (window(1500, 900, "SIGMOID"), window(4095 - 1500, 900, "SIGMOID")),
        (rescale(1, -1000) | window(500, 900), rescale(1, -1000) | window(2095 - 500 + 1, 900)),
    ],
    ids=["none", "linear", "sigmoid", "intercept"],
)
def test_both_monochromes_of_one_picture_agree(of_mono2: dict[str, Any], of_mono1: dict[str, Any]) -> None:
    pixels = picture()
    of_mono1 = of_mono1 | ({} if "RescaleIntercept" not in of_mono1 else {"RescaleIntercept": -1000})
    bright_is_high = read_display(dicom_file(pixels, bits=12, **of_mono2)).pixels
    bright_is_low = read_display(dicom_file(4095 - pixels, bits=12, **(MONO1 | of_mono1))).pixels
    assert np.abs(bright_is_high.astype(int) - bright_is_low).max() <= 1
    assert bright_is_high[0, 0] == 0  # the border is air, and dark


def test_a_picture_without_photometric_interpretation_is_taken_as_monochrome2_and_says_so() -> None:
    shown = read_display(dicom_file(picture(), bits=12, without=("PhotometricInterpretation",), **FULL))
    assert shown.pixels[0, 0] == 0
    assert "photometric_interpretation=absent" in shown.notes


def test_an_unknown_voi_function_is_taken_as_linear_and_noted() -> None:
    named = read_display(dicom_file(picture(), bits=12, **(FULL | {"VOILUTFunction": "CUBIC"})))
    assert np.array_equal(named.pixels, read_display(dicom_file(picture(), bits=12, **FULL)).pixels)
    assert "voi_lut_function=malformed" in named.notes


@pytest.mark.parametrize("syntax", NATIVE)
def test_look_up_tables_are_read_in_every_byte_order(syntax: str) -> None:
    stored = np.array([[0, 1, 2], [2, 1, 0]], np.uint16)
    kind = ">u2" if syntax == EXPLICIT_BIG else "<u2"
    item = lut_item(0, 12, [0, 1024, 4095])
    item[0]["LUTData"].value = np.array([0, 1024, 4095], kind).tobytes()
    shown = read_display(dicom_file(stored, syntax, bits=12, VOILUTSequence=item))
    assert shown.pixels.tolist() == [[0, 64, 255], [255, 64, 0]]
    assert shown.notes == ()
