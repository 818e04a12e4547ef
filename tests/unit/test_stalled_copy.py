"""A copy that stalled leaves zeros where the lower part of a picture should be; a border of zeros is ordinary."""

import time
from typing import Any

import cv2
import numpy as np
import pytest

from schema.vocabulary import Verdict
from tests.ledger import card
from tests.phantoms import (
    DEFLATED,
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    LOSSLESS_ENCODERS,
    STUDY_UID,
    Pixels,
    dicom_file,
    picture,
)
from worker.errors import TooLarge, Truncated
from worker.imaging.image_file import read_instance
from worker.imaging.instance import Instance
from worker.imaging.stored_values.stalled_copy import LOWER_PART_EMPTY
from worker.inference.prediction import Prediction
from worker.screening.rules import ImageOutcome, decide, eligible

ROWS, COLUMNS = 160, 128

#: A radiograph without a value of zero, and one with a dark border of a few pixels.
NOISE = np.random.default_rng(3).integers(1, 40, (ROWS, COLUMNS)).astype(np.uint16)
FULL = picture(ROWS, COLUMNS) // 2 + NOISE
BORDERED = picture(ROWS, COLUMNS)


def stalled(content: bytes, at: int) -> bytes:
    """The file as it lies there while its first bytes alone have come."""
    return content[:at] + bytes(len(content) - at)


def has_note(pixels: Pixels, **elements: Any) -> bool:
    return LOWER_PART_EMPTY in read_instance(dicom_file(pixels, **elements)).notes


def turned(pixels: Pixels, degrees: float) -> Pixels:
    """Dark but for a rectangle that stands aslant."""
    rows, columns = pixels.shape
    field = np.zeros(pixels.shape, np.uint8)
    field[rows // 6 : -rows // 6, columns // 6 : -columns // 6] = 1
    turn = cv2.getRotationMatrix2D((columns / 2, rows / 2), degrees, 1.0)
    shown = cv2.warpAffine(field, turn, (columns, rows), flags=cv2.INTER_NEAREST)
    return np.asarray(pixels * shown, pixels.dtype)


@pytest.mark.parametrize("pixels", [FULL, BORDERED], ids=["full", "bordered"])
@pytest.mark.parametrize("syntax", [EXPLICIT_LITTLE, IMPLICIT_LITTLE, EXPLICIT_BIG])
def test_zeros_from_anywhere_in_the_picture_are_suspect(pixels: Pixels, syntax: str) -> None:
    content = dicom_file(pixels, syntax, bits=12)
    start = len(content) - pixels.nbytes
    assert LOWER_PART_EMPTY not in read_instance(content).notes
    for share in np.arange(0.0, 0.94, 0.03):
        for extra in (0, 33, 2 * COLUMNS - int(share * pixels.nbytes) % (2 * COLUMNS)):  # in a row, and between two
            at = start + int(share * pixels.nbytes) + extra
            assert LOWER_PART_EMPTY in read_instance(stalled(content, at)).notes, (share, extra)


def test_colour_by_plane_is_suspect_too() -> None:
    content = dicom_file(np.repeat(NOISE.astype(np.uint8)[..., None], 3, 2), PlanarConfiguration=1)
    assert LOWER_PART_EMPTY not in read_instance(content).notes
    assert LOWER_PART_EMPTY in read_instance(stalled(content, len(content) * 2 // 3)).notes


@pytest.mark.parametrize(
    "pixels",
    [
        np.pad(FULL, ((20, 20), (0, 0))),
        np.pad(FULL, ((16, 27), (0, 0))),
        np.pad(FULL, ((0, 0), (20, 20))),
        np.pad(FULL, ((20, 30), (18, 25))),
        *(turned(FULL, degrees) for degrees in (0.2, 1, 4, 15, 45, 80)),
        np.where(np.hypot(*np.mgrid[-1 : 1 : ROWS * 1j, -1 : 1 : COLUMNS * 1j]) < 0.85, FULL, 0).astype(np.uint16),
        np.concatenate([FULL, np.zeros((6, COLUMNS), np.uint16)]),
    ],
    ids=["letterbox", "uneven letterbox", "pillarbox", "collimated", *(f"turned{n}" for n in range(6)), "round", "few"],
)
def test_borders_are_ordinary(pixels: Pixels) -> None:
    assert not has_note(pixels)


def in_a_circle(pixels: Pixels, radius: float) -> Pixels:
    """Dark but for a round field, 1: as high as the picture."""
    y, x = np.mgrid[-1 : 1 : pixels.shape[0] * 1j, -1 : 1 : pixels.shape[1] * 1j]
    return np.where(np.hypot(y, x) < radius, pixels, 0).astype(pixels.dtype)


LARGE = np.tile(NOISE, (5, 5))


@pytest.mark.parametrize("radius", [0.85, 0.95])
def test_zeros_that_begin_in_the_margin_of_a_round_field_are_suspect(radius: float) -> None:
    whole = in_a_circle(LARGE, radius)
    for share in (0.3, 0.6, 0.8, 0.9):
        part = whole.copy()
        part[int(share * len(part)) :] = 0
        assert has_note(part), share


@pytest.mark.parametrize(
    "pixels",
    [
        in_a_circle(LARGE, 0.8), np.pad(in_a_circle(LARGE, 0.98), ((0, 60), (40, 40))),
        *(turned(LARGE, degrees) for degrees in (0.2, 1, 4, 15, 45, 80)),
        *(np.pad(turned(LARGE, degrees), ((0, 50), (0, 0))) for degrees in (0.2, 1, 4, 15, 45, 80)),
    ],
)  # fmt: skip
def test_whole_fields_of_any_form_are_ordinary(pixels: Pixels) -> None:
    assert not has_note(pixels)


def test_padding_below_the_picture_is_ordinary_where_it_is_declared() -> None:
    padded = np.pad(FULL, ((0, 40), (0, 0)))
    assert has_note(padded)
    assert not has_note(padded, PixelPaddingValue=0)
    content = dicom_file(FULL, PixelPaddingValue=0)
    assert LOWER_PART_EMPTY in read_instance(stalled(content, len(content) * 2 // 3 + 33)).notes, "inside a row"


@pytest.mark.parametrize("syntax", [*LOSSLESS_ENCODERS, DEFLATED])
def test_a_codestream_that_goes_over_into_zeros_is_truncated_and_names_its_study(syntax: str) -> None:
    content = dicom_file(FULL, syntax, bits=12)
    for share in (0.3, 0.6, 0.95):
        with pytest.raises(Truncated) as caught:
            read_instance(stalled(content, int(len(content) * share)))
        assert isinstance(caught.value.instance, Instance)
        assert caught.value.instance.study_uid == STUDY_UID
    unended = content[: content.rindex(b"\xfe\xff\xdd\xe0")] if syntax != DEFLATED else content
    with pytest.raises(Truncated):
        read_instance(stalled(unended, len(unended) * 2 // 3))


def test_zeros_from_within_the_header_on_are_no_million_elements() -> None:
    content = dicom_file(np.zeros((1024, 600), np.uint16) + 7)
    with pytest.raises(Truncated, match="holds zeros"):
        read_instance(stalled(content, content.index(b"CHEST") + 6))


def test_a_header_of_empty_elements_costs_no_look_at_the_whole_file_each() -> None:
    content = dicom_file(np.zeros((2048, 2048), np.uint16) + 7)
    at = content.index(b"\xe0\x7f\x10\x00")
    began = time.process_time()
    with pytest.raises(TooLarge):
        read_instance(content[:at] + bytes(8 * 200_000) + content[at:])
    assert time.process_time() - began < 10


@pytest.mark.parametrize(("probability", "verdict"), [(0.9, Verdict.FLAGGED), (0.1, Verdict.UNSCREENABLE)])
def test_half_a_picture_is_never_a_negative(probability: float, verdict: Verdict) -> None:
    content = dicom_file(FULL)
    instance = read_instance(stalled(content, len(content) // 2))
    prediction = Prediction(probability, np.zeros((2, 2), np.float32), 1.0)
    judged = decide([ImageOutcome(instance, eligible(instance), prediction)], card())
    assert (judged.verdict, judged.probability) == (verdict, probability)
    assert verdict is Verdict.FLAGGED or judged.detail == LOWER_PART_EMPTY
