"""A picture is decoded no finer than is enough where its codestream and its header allow it, else in full."""

import struct
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from io import BytesIO
from typing import Any

import cv2
import imagecodecs
import numpy as np
import pydicom
import pytest

from tests import phantoms
from tests.phantoms import Pixels, dicom_file, picture
from worker.decoding.decoder import Decoder
from worker.errors import Undecodable
from worker.imaging.codec.codestream import Codestream, Coding, read_codestream
from worker.imaging.codec.resolution import MinimumSize, size_at
from worker.imaging.codec.transfer_syntaxes import decode_codestream
from worker.imaging.image_file import open_image, read_display, stored_digest

ROWS, COLUMNS = 320, 256
ALL = MinimumSize(60, 70, frozenset(Coding))
FULL_WINDOW: dict[str, Any] = {"WindowCenter": 2048, "WindowWidth": 4096}
REDUCIBLE = (phantoms.JPEG_2000_LOSSLESS, phantoms.JPEG_2000, phantoms.HTJ2K)
PICTURE = picture(ROWS, COLUMNS)


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    with closing(Decoder()) as decoder:
        yield decoder


def blocks(pixels: Pixels, level: int) -> Pixels:
    """What JPEG's lower resolution looks like: means of blocks."""
    size = (pixels.shape[1] >> level, pixels.shape[0] >> level)
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)).astype(int)


def points(pixels: Pixels, level: int) -> Pixels:
    """What JPEG 2000's lower resolution of a smooth picture looks like: its samples lie on every other pixel."""
    return pixels[:: 1 << level, :: 1 << level].astype(int)


#: Not the border, where the picture jumps, nor the one bright pixel.
INSIDE = np.s_[6:-6, 6:28]


@pytest.mark.parametrize(
    ("rows", "columns", "short", "long", "level"),
    [
        (3056, 2544, 448, 740, 2),  # a detector at twice a grid of 224 px, and an overlay
        (3056, 2544, 448, 768, 1),
        (2544, 3056, 448, 740, 2),
        (3056, 2544, 637, 740, 1),
        (3056, 2544, 636, 740, 2),
        (895, 1480, 448, 740, 1),  # sizes are rounded up
        (894, 1480, 448, 740, 0),
        (1792, 447, 448, 740, 0),
        (8000, 8000, 10, 10, 5),  # no deeper than the codestream is
    ],
)
def test_the_level_is_the_lowest_that_is_enough(rows: int, columns: int, short: int, long: int, level: int) -> None:
    stream = Codestream(Coding.JPEG_2000, rows, columns, samples=1, precision=12, levels=5)
    assert MinimumSize(short, long, frozenset({Coding.JPEG_2000})).level(stream) == level


def test_only_codings_with_resolutions_that_were_allowed_are_reduced() -> None:
    stream = Codestream(Coding.JPEG, 3056, 2544, samples=1, precision=8)
    assert ALL.level(stream) == 3  # JPEG has no more
    assert ALL.level(replace(stream, precision=12)) == 0
    assert ALL.level(replace(stream, coding=Coding.JPEG_LS)) == 0
    assert ALL.level(replace(stream, coding=Coding.JPEG_LOSSLESS)) == 0
    assert ALL.level(replace(stream, coding=Coding.JPEG_2000, levels=0)) == 0
    assert replace(ALL, codings=frozenset({Coding.JPEG_2000})).level(stream) == 0


def test_a_size_that_pillow_would_round_otherwise_is_read_at_the_lowest_resolution() -> None:
    stream = Codestream(Coding.JPEG_2000, 3001, 2544, samples=1, precision=12, levels=5)
    assert size_at(2, stream) == (751, 636)
    assert MinimumSize(448, 740, frozenset(Coding)).level(stream) == 2


def test_what_is_enough_travels_to_the_decoder_child() -> None:
    assert MinimumSize.from_json(ALL.to_json()) == ALL


@pytest.mark.parametrize("syntax", REDUCIBLE)
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_jpeg_2000_is_read_at_the_level_and_looks_the_same(decoder: Decoder, syntax: str, photometric: str) -> None:
    data = dicom_file(PICTURE, syntax, bits=12, PhotometricInterpretation=photometric, **FULL_WINDOW)
    whole, shown = read_display(data), read_display(data, reduction=ALL)
    assert shown.pixels.shape == (ROWS >> 2, COLUMNS >> 2)
    assert "reduced=2" in shown.notes
    assert np.abs(shown.pixels.astype(int) - points(whole.pixels, 2))[INSIDE].max() <= 2
    there = decoder.read_display(open_image(data), ALL)
    assert np.array_equal(there.pixels, shown.pixels)
    assert there.notes == shown.notes
    assert np.array_equal(decoder.read_display(open_image(data)).pixels, whole.pixels)


@pytest.mark.parametrize("shape", [(319, 255), (320, 254), (318, 253)])
def test_odd_sizes_are_rounded_up(decoder: Decoder, shape: tuple[int, int]) -> None:
    data = dicom_file(picture(*shape), phantoms.JPEG_2000_LOSSLESS, bits=12, **FULL_WINDOW)
    shown = decoder.read_display(open_image(data), replace(ALL, short_px=100))
    assert shown.pixels.shape == (-(-shape[0] // 2), -(-shape[1] // 2))


@pytest.mark.parametrize("bits", [8, 10, 12, 15, 16])
@pytest.mark.parametrize("sign", [0, 1])
def test_values_of_every_depth_and_sign_mean_what_they_mean_in_full(bits: int, sign: int) -> None:
    codes = picture(ROWS, COLUMNS, bits).astype(int) - (sign << (bits - 1))
    pixels = codes.astype(f"{'i' if sign else 'u'}{1 if bits == 8 else 2}")
    frame = bytes(imagecodecs.jpeg2k_encode(pixels, codecformat="j2k", reversible=True, level=0, bitspersample=bits))
    stream = read_codestream(frame)
    assert stream is not None
    assert (stream.precision, stream.is_signed) == (bits, bool(sign))
    whole = decode_codestream("J", frame, stream, is_rgb=False).pixels
    assert np.array_equal(whole, pixels)
    reduced = decode_codestream("J", frame, stream, is_rgb=False, level=2).pixels.astype(int)
    spare = 64 - bits
    reduced = reduced << spare >> spare if sign else reduced
    assert np.abs(reduced - points(codes, 2))[INSIDE].max() < (1 << bits) / 100


@pytest.mark.parametrize("samples", [1, 3])
def test_a_jpeg_is_scaled_while_it_is_decoded(decoder: Decoder, samples: int) -> None:
    grey = picture(ROWS, COLUMNS, 8)
    options = (cv2.IMWRITE_JPEG_QUALITY, 95)
    coloured = grey if samples == 1 else np.dstack([grey, grey // 2, grey])
    data = bytes(cv2.imencode(".jpg", coloured, options)[1])
    shown = decoder.read_display(open_image(data), ALL)
    assert shown.pixels.shape == (ROWS >> 2, COLUMNS >> 2)
    assert "reduced=2" in shown.notes
    assert np.abs(shown.pixels.astype(int) - blocks(read_display(data).pixels, 2)).mean() < 1.0
    if samples == 1:
        inside = dicom_file(grey, phantoms.JPEG_BASELINE, bits=8, frame=data, WindowCenter=128, WindowWidth=256)
        assert np.array_equal(read_display(inside, reduction=ALL).pixels, shown.pixels)


def test_a_turned_jpeg_stays_turned(decoder: Decoder) -> None:
    data = bytes(cv2.imencode(".jpg", picture(ROWS, COLUMNS, 8))[1])
    tiff = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
    turned = data[:2] + b"\xff\xe1" + struct.pack(">H", len(tiff) + 8) + b"Exif\0\0" + tiff + data[2:]
    shown, whole = (decoder.read_display(open_image(turned), minimum) for minimum in (ALL, None))
    assert whole.pixels.shape == (COLUMNS, ROWS)
    assert shown.pixels.shape == (COLUMNS >> 2, ROWS >> 2)
    assert np.abs(shown.pixels.astype(int) - blocks(whole.pixels, 2)).mean() < 1.0


SIGNED_HEADER: dict[str, Any] = {"PixelRepresentation": 1, **FULL_WINDOW}
IN_FULL = {
    "no VOI is declared": dicom_file(PICTURE, phantoms.JPEG_2000_LOSSLESS, bits=12),
    "not one of the codings": dicom_file(PICTURE, phantoms.JPEG_LS, bits=12, **FULL_WINDOW),
    "RLE": dicom_file(PICTURE, phantoms.RLE, bits=12, **FULL_WINDOW),
    "12-bit JPEG": dicom_file(PICTURE, phantoms.JPEG_EXTENDED, bits=12, **FULL_WINDOW),
    "header and codestream disagree on the sign": dicom_file(
        PICTURE, phantoms.JPEG_2000_LOSSLESS, bits=12, **SIGNED_HEADER
    ),
    "colour": dicom_file(np.dstack([picture(ROWS, COLUMNS, 8)] * 3), phantoms.JPEG_2000_LOSSLESS, bits=8),
    "a PNG": bytes(imagecodecs.png_encode(picture(ROWS, COLUMNS, 8))),
    "a 12-bit JPEG file": bytes(imagecodecs.jpeg_encode(PICTURE, level=98, bitspersample=12)),
}


@pytest.mark.parametrize("why", IN_FULL)
def test_what_cannot_be_reduced_is_decoded_in_full(why: str) -> None:
    whole, shown = read_display(IN_FULL[why]), read_display(IN_FULL[why], reduction=ALL)
    assert np.array_equal(shown.pixels, whole.pixels)
    assert shown.notes == whole.notes


def test_a_digest_is_always_of_all_stored_values(decoder: Decoder) -> None:
    data = dicom_file(PICTURE, phantoms.JPEG_2000_LOSSLESS, bits=12, **FULL_WINDOW)
    opened = open_image(data)
    assert decoder.read_display(opened, ALL).pixels.shape != PICTURE.shape
    assert decoder.stored_digest(data, opened.limits) == stored_digest(dicom_file(PICTURE, bits=12))


def test_where_a_level_cannot_be_had_the_picture_is_decoded_in_full_and_a_note_says_so() -> None:
    frame = bytearray(phantoms.LOSSLESS_ENCODERS[phantoms.JPEG_2000_LOSSLESS](PICTURE, 12))
    stream = read_codestream(bytes(frame))
    assert stream is not None
    decoded = decode_codestream("J", bytes(frame), replace(stream, levels=9), is_rgb=False, level=7)
    assert np.array_equal(decoded.pixels, PICTURE)
    assert [note.partition(":")[0] for note in decoded.notes] == ["decoder_failed=openjpeg_reduced"]


def test_missing_tiles_are_missed_at_a_lower_resolution_too() -> None:
    frame = phantoms.LOSSLESS_ENCODERS[phantoms.JPEG_2000_LOSSLESS](PICTURE, 12)
    data = dicom_file(PICTURE, phantoms.JPEG_2000_LOSSLESS, bits=12, frame=frame[:-200] + b"\xff\xd9", **FULL_WINDOW)
    with pytest.raises(Undecodable, match="tiles are missing"):
        read_display(data, reduction=ALL)


def test_a_tile_of_open_length_is_read_to_its_end() -> None:
    frame = bytearray(phantoms.LOSSLESS_ENCODERS[phantoms.JPEG_2000_LOSSLESS](PICTURE, 12))
    at = frame.index(b"\xff\x90")
    frame[at + 6 : at + 10] = bytes(4)
    data = dicom_file(PICTURE, phantoms.JPEG_2000_LOSSLESS, bits=12, frame=bytes(frame), **FULL_WINDOW)
    assert read_display(data, reduction=ALL).pixels.shape == PICTURE.shape


@pytest.mark.parametrize("keep", [0.3, 0.7])
def test_a_short_jpeg_is_refused_at_a_lower_resolution_too(keep: float) -> None:
    noise = np.random.default_rng(3).integers(0, 256, (ROWS, COLUMNS)).astype(np.uint8)
    data = bytes(cv2.imencode(".jpg", noise)[1])
    with pytest.raises(Undecodable):
        read_display(data[: int(len(data) * keep)] + b"\xff\xd9", reduction=ALL)


def test_the_header_is_not_what_decides_the_level() -> None:
    data = dicom_file(PICTURE, phantoms.JPEG_2000_LOSSLESS, bits=12, **FULL_WINDOW)
    header = pydicom.dcmread(BytesIO(data))
    header.Rows = ROWS * 4
    lying = BytesIO()
    header.save_as(lying)
    with pytest.raises(Undecodable, match="the header says"):
        read_display(lying.getvalue(), reduction=ALL)
