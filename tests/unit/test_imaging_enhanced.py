"""An enhanced object keeps the elements of the display pipeline in its functional groups (PS3.3 C.7.6.16)."""

from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset

from tests import phantoms
from tests.phantoms import FULL, dicom_file, lut_item, picture, rescale, window
from worker.imaging import viewer_data
from worker.imaging.image_file import read_display

PICTURE = picture(96, 128)
SHOWN = read_display(dicom_file(PICTURE, bits=12, **FULL)).pixels

PER_FRAME, SHARED = "PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"


def data_set(**elements: Any) -> Dataset:
    held = Dataset()
    for keyword, value in elements.items():
        setattr(held, keyword, value)
    return held


def voi(**elements: Any) -> dict[str, Any]:
    return {"FrameVOILUTSequence": [data_set(**elements)]}


def values(slope: float, intercept: float) -> dict[str, Any]:
    return {"PixelValueTransformationSequence": [data_set(**rescale(slope, intercept))]}


@pytest.mark.parametrize("groups", [PER_FRAME, SHARED])
@pytest.mark.parametrize("syntax", [phantoms.EXPLICIT_LITTLE, phantoms.IMPLICIT_LITTLE, phantoms.EXPLICIT_BIG])
def test_the_window_and_the_rescale_of_the_frame_are_used(syntax: str, groups: str) -> None:
    turned = (4095 - PICTURE).astype(PICTURE.dtype)
    held = data_set(**voi(**FULL), **values(-1, 4095))
    data = dicom_file(turned, syntax, bits=12, NumberOfFrames="1", extra=data_set(**{groups: [held]}))
    shown = read_display(data)
    assert np.array_equal(shown.pixels, SHOWN)
    assert shown.notes == ()
    assert [(w.center, w.width) for w in viewer_data.read_view(data).windows] == [(2048, 4096)]


def test_the_table_of_the_frame_is_used_and_offered() -> None:
    held = data_set(**voi(VOILUTSequence=lut_item(0, 12, list(range(4096)))))
    data = dicom_file(PICTURE, bits=12, extra=data_set(**{SHARED: [held]}))
    assert np.abs(read_display(data).pixels.astype(int) - np.rint(PICTURE / 4095 * 255)).max() <= 1
    assert len(viewer_data.read_view(data).voi_luts) == 1


def test_what_the_frame_says_itself_comes_before_what_all_frames_share() -> None:
    groups = {PER_FRAME: [data_set(**voi(**FULL))], SHARED: [data_set(**voi(**window(100, 50)), **values(2, 0))]}
    halved = (PICTURE // 2).astype(PICTURE.dtype)
    shown = read_display(dicom_file(halved, bits=12, extra=data_set(**groups))).pixels
    assert np.abs(shown.astype(int) - SHOWN).max() <= 1


@pytest.mark.parametrize("held", [Dataset(), data_set(FrameVOILUTSequence=[])], ids=["empty", "no item"])
def test_groups_without_the_macro_leave_the_header_as_it_is(held: Dataset) -> None:
    data = dicom_file(PICTURE, bits=12, **FULL, extra=data_set(**{PER_FRAME: [held], SHARED: []}))
    assert np.array_equal(read_display(data).pixels, SHOWN)
