"""A copy that brings its parts in any order leaves zeros inside a picture; JPEGs of which a scan or the rest is absent;
pixel data wrapped as the Standard forbids."""

import struct
import zlib
from io import BytesIO

import cv2
import numpy as np
import pytest
from PIL import Image
from pydicom.encaps import encapsulate

from tests.phantoms import (
    DEFLATED,
    EXPLICIT_LITTLE,
    FULL,
    JPEG_2000_LOSSLESS,
    JPEG_LOSSLESS_SV1,
    JPEG_LS,
    LOSSLESS_ENCODERS,
    Pixels,
    declare_syntax,
    dicom_file,
    native_bytes,
    picture,
)
from worker.errors import Truncated, Undecodable, UnsupportedPixels
from worker.imaging.image_file import read_display, read_instance

PICTURE = picture(320, 256) | 1
NOISY = PICTURE ^ np.random.default_rng(5).integers(0, 64, PICTURE.shape).astype(np.uint16)
SHOWN = read_display(dicom_file(PICTURE, bits=12, **FULL)).pixels


def emptied(content: bytes, start: int, length: int) -> bytes:
    return content[:start] + bytes(length) + content[start + length :]


@pytest.mark.parametrize("start", [5000, 51234])
def test_zeros_inside_a_picture_are_a_part_that_has_not_come(start: int) -> None:
    content = dicom_file(PICTURE, bits=12)
    first = len(content) - PICTURE.nbytes
    with pytest.raises(Truncated, match="inside its picture") as caught:
        read_instance(emptied(content, first + start, 40_000))
    assert caught.value.instance is not None, "its study shows it"


@pytest.mark.parametrize("block", [2, 9, 20])
def test_blocks_that_have_not_come(block: int) -> None:
    content = dicom_file(PICTURE, bits=12)
    with pytest.raises(Truncated, match="inside its picture"):
        read_instance(emptied(content, block * 4096, 5 * 4096))


def banded(first: int, end: int, margin: int) -> Pixels:
    pixels = PICTURE.copy()
    pixels[:, :margin] = pixels[:, 256 - margin :] = 0
    pixels[first:end] = 0
    return pixels


@pytest.mark.parametrize("margin", [0, 30])
@pytest.mark.parametrize(("first", "end"), [(0, 60), (120, 180), (260, 320)])
def test_bands_and_borders_are_ordinary(first: int, end: int, margin: int) -> None:
    read_instance(dicom_file(banded(first, end, margin), bits=12))


@pytest.mark.parametrize("degrees", [-20, -1, -0.3, 0.2, 1, 3, 45])
def test_a_turned_field_is_ordinary(degrees: float) -> None:
    turn = cv2.getRotationMatrix2D((128, 160), degrees, 0.6)
    field = cv2.warpAffine(np.ones(PICTURE.shape, np.uint8), turn, (256, 320), flags=cv2.INTER_NEAREST)
    read_instance(dicom_file(np.asarray(PICTURE * field, np.uint16), bits=12))


@pytest.mark.parametrize("syntax", [JPEG_LOSSLESS_SV1, JPEG_LS, JPEG_2000_LOSSLESS])
def test_an_empty_block_inside_a_codestream(syntax: str) -> None:
    content = dicom_file(NOISY, syntax, bits=12)
    read_display(content)
    with pytest.raises(Truncated, match="inside its picture"):
        read_instance(emptied(content, 4 * 4096, 2 * 4096))


def test_a_flat_part_of_a_codestream_is_ordinary() -> None:
    flat = np.zeros((1200, 1024), np.uint16)
    flat[600:660] = NOISY[:60].repeat(4, axis=1)
    assert not read_display(dicom_file(flat, JPEG_LOSSLESS_SV1, bits=12, **FULL)).pixels[:500].any()


def jpeg(mode: str, **options: bool) -> bytes:
    out = BytesIO()
    Image.fromarray((NOISY >> 4).astype(np.uint8)).convert(mode).save(out, "JPEG", quality=95, **options)
    return out.getvalue()


@pytest.mark.parametrize("kept", [1, 2, 4])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_progressive_jpeg_without_all_its_scans_is_refused(mode: str, kept: int) -> None:
    content = jpeg(mode, progressive=True)
    read_display(content)
    scans = [at for at in range(len(content)) if content[at : at + 2] == b"\xff\xda"]
    with pytest.raises(Undecodable, match="scans of"):
        read_display(content[: scans[kept]] + b"\xff\xd9")


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_cmyk_jpeg_that_ends_early_is_refused(share: float) -> None:
    content = jpeg("CMYK")
    read_display(content)
    with pytest.raises(Undecodable, match="a part of its picture is missing"):
        read_display(content[: int(len(content) * share)] + b"\xff\xd9")


def test_an_empty_block_inside_a_jpeg() -> None:
    with pytest.raises(Truncated, match="inside its picture"):
        read_instance(emptied(jpeg("L", progressive=True), 4096, 4096))


@pytest.mark.parametrize("fragments", [1, 3])
def test_items_of_defined_length_are_no_samples(fragments: int) -> None:
    items = encapsulate([native_bytes(PICTURE)], fragments_per_frame=fragments)
    shown = read_display(dicom_file(PICTURE, EXPLICIT_LITTLE, bits=12, pixel_data=items, **FULL))
    assert np.array_equal(shown.pixels, SHOWN)
    assert shown.notes == ()


def test_offsets_of_fragments_are_no_frames() -> None:
    frame = LOSSLESS_ENCODERS[JPEG_LS](PICTURE, 16)
    third = len(frame) // 6 * 2
    parts = [frame[:third], frame[third : 2 * third], frame[2 * third :]]
    offsets = struct.pack("<III", 0, third + 8, 2 * third + 16)
    items = b"".join(
        b"\xfe\xff\x00\xe0" + struct.pack("<I", len(part) + len(part) % 2) + part + b"\0" * (len(part) % 2)
        for part in (offsets, *parts)
    )
    content = dicom_file(PICTURE, JPEG_LS, bits=12, frame=frame, **FULL)
    whole = encapsulate([frame])
    assert content.count(whole) == 1
    assert np.array_equal(read_display(content.replace(whole, items)).pixels, SHOWN)
    two = encapsulate([frame, frame])
    with pytest.raises(UnsupportedPixels, match="2 frames"):
        read_display(content.replace(whole, two))


def test_a_deflated_data_set_in_the_wrapping_of_zlib() -> None:
    plain = dicom_file(PICTURE, bits=12, **FULL)
    body = plain[plain.index(b"\x08\x00\x16\x00UI") :]
    head = declare_syntax(plain, DEFLATED)
    head = head[: head.index(b"\x08\x00\x16\x00UI")]
    assert np.array_equal(read_display(head + zlib.compress(body)).pixels, SHOWN)


@pytest.mark.parametrize("tail", [b"\xff" * 300, b"\x47\xdb\xaf\x9e--no element--", b"<html>gateway timeout</html>"])
@pytest.mark.parametrize("syntax", [EXPLICIT_LITTLE, JPEG_LS])
def test_bytes_after_the_pixel_data_that_are_no_element_are_left_out(tail: bytes, syntax: str) -> None:
    shown = read_display(dicom_file(PICTURE, syntax, bits=12, **FULL) + tail)
    assert np.array_equal(shown.pixels, SHOWN)


def test_an_element_after_the_pixel_data_that_is_cut_off_still_counts() -> None:
    padding = b"\xfc\xff\xfc\xffOB\0\0\x00\x02\0\0" + bytes(16)
    with pytest.raises(Truncated):
        read_display(dicom_file(PICTURE, bits=12, **FULL) + padding)
