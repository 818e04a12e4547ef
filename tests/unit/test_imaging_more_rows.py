"""A file whose header says fewer rows or columns than its data hold is refused: decoders show a part of the picture."""

import struct
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any

import cv2
import imagecodecs
import numpy as np
import pytest

from tests import phantoms
from tests.phantoms import Pixels, dicom_file, picture
from worker.errors import Undecodable
from worker.imaging.codec.codestream import Coding, read_codestream
from worker.imaging.codec.more_rows import with_height
from worker.imaging.codec.resolution import MinimumSize
from worker.imaging.image_file import read_display, read_instance
from worker.imaging.png_rows import has_more_rows

#: Larger than the least number of columns of which something can be said.
GREY = picture(rows=120, columns=400, bits=8)
TINTED = np.dstack([GREY, GREY, GREY // 2])

JPEGS: dict[str, tuple[Pixels, tuple[int, ...]]] = {
    "grey": (GREY, ()),
    "restarts": (GREY, (cv2.IMWRITE_JPEG_RST_INTERVAL, 5)),
    "progressive": (GREY, (cv2.IMWRITE_JPEG_PROGRESSIVE, 1)),
    "optimized": (GREY, (cv2.IMWRITE_JPEG_OPTIMIZE, 1)),
    "4:4:4": (TINTED, (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)),
    "4:2:0": (TINTED, (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420)),
    "black": (np.zeros_like(GREY), ()),
    "mid-grey": (np.full_like(GREY, 128), ()),
}


#: By how often libjpeg halves a picture of these columns, and of at least 60 rows: the smallest size that is enough.
LEVELS = {level: MinimumSize(7, 400 >> level, frozenset({Coding.JPEG})) for level in (1, 2, 3)}


def jpeg(name: str) -> bytes:
    pixels, options = JPEGS[name]
    return bytes(cv2.imencode(".jpg", pixels, options)[1])


def saying(data: bytes, rows: int | None = None, columns: int | None = None) -> bytes:
    """A JPEG with another size in its frame header."""
    stream = read_codestream(data)
    assert stream is not None
    at = stream.height_at + 2
    data = with_height(data, stream, rows or stream.rows)
    return data[:at] + struct.pack(">H", columns or stream.columns) + data[at + 2 :]


@pytest.mark.parametrize("name", JPEGS)
def test_a_whole_jpeg_is_read_as_libjpeg_reads_it(name: str) -> None:
    data = jpeg(name)
    shown, plain = read_display(data).pixels, imagecodecs.jpeg8_decode(data)
    assert np.array_equal(shown, plain if plain.ndim == 2 else cv2.cvtColor(plain, cv2.COLOR_RGB2GRAY))


@pytest.mark.parametrize("name", [name for name in JPEGS if name != "mid-grey"])
@pytest.mark.parametrize("said", [{"rows": 60}, {"rows": 96}, {"columns": 200}], ids=str)
def test_a_jpeg_that_holds_more_than_it_says_is_refused(name: str, said: dict[str, int]) -> None:
    with pytest.raises(Undecodable, match=r"holds more rows than the .* px that its frame header says"):
        read_display(saying(jpeg(name), **said))


@pytest.mark.parametrize("name", [name for name in JPEGS if name != "mid-grey"])
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("rows", [60, 96])
def test_a_jpeg_that_holds_more_than_it_says_is_refused_at_a_lower_resolution_too(
    name: str, level: int, rows: int
) -> None:
    with pytest.raises(Undecodable, match=f"holds more rows than the 400 x {rows} px that its frame header says"):
        read_display(saying(jpeg(name), rows), reduction=LEVELS[level])


@pytest.mark.parametrize("name", JPEGS)
@pytest.mark.parametrize("level", LEVELS)
def test_a_whole_jpeg_is_read_at_a_lower_resolution_as_libjpeg_reads_it(name: str, level: int) -> None:
    flag = (cv2.IMREAD_REDUCED_GRAYSCALE_2, cv2.IMREAD_REDUCED_GRAYSCALE_4, cv2.IMREAD_REDUCED_GRAYSCALE_8)[level - 1]
    data = jpeg(name)
    shown = read_display(data, reduction=LEVELS[level])
    assert f"reduced={level}" in shown.notes
    plain: Any = cv2.imdecode(np.frombuffer(data, np.uint8), flag)
    assert np.array_equal(shown.pixels, plain)


@pytest.mark.parametrize("predictor", range(1, 8))
def test_a_lossless_jpeg_that_holds_more_than_it_says_is_refused(predictor: int) -> None:
    pixels = picture(rows=40, columns=60, bits=12)
    frame = bytes(imagecodecs.jpeg_encode(pixels, lossless=True, predictor=predictor, bitspersample=12))
    whole = dicom_file(pixels, phantoms.JPEG_LOSSLESS, bits=12, frame=frame)
    assert np.array_equal(read_display(whole).pixels, read_display(dicom_file(pixels, bits=12)).pixels)
    short = dicom_file(pixels[:30], phantoms.JPEG_LOSSLESS, bits=12, frame=saying(frame, rows=30))
    with pytest.raises(Undecodable, match="holds more rows than the 60 x 30 px"):
        read_display(short)


def png(pixels: Pixels, rows: int, *, interlaced: bool = False, level: int = -1) -> bytes:
    """A PNG whose header says this number of rows; its data hold all, deflated at zlib's level."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    steps = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    passes = [pixels[top::down, left::right] for left, top, right, down in steps] if interlaced else [pixels]
    lines = b"".join(b"\0" + line.astype(line.dtype.newbyteorder(">")).tobytes() for each in passes for line in each)
    head = struct.pack(">IIBBBBB", pixels.shape[1], rows, 8 * pixels.dtype.itemsize, 0, 0, 0, interlaced)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(lines, level)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_a_png_that_holds_more_than_it_says_is_refused(kind: type, interlaced: bool) -> None:
    pixels: Pixels = GREY.astype(kind)
    assert read_instance(png(pixels, 120, interlaced=interlaced)).rows == 120
    assert read_display(png(pixels, 120, interlaced=interlaced)).pixels.shape == (120, 400)
    told = "holds more rows than the 400 x 60 px" + ("|cannot be decoded" if interlaced else "")
    with pytest.raises(Undecodable, match=told):
        read_display(png(pixels, 60, interlaced=interlaced))


@pytest.mark.parametrize(("rows", "has_more"), [(2048, False), (2047, True)])
def test_looking_for_more_rows_in_a_png_copies_no_more_than_a_piece_of_it(rows: int, has_more: bool) -> None:
    """All that is left was copied for each megabyte, which of a large file took more time than to decode it."""
    data = png(np.zeros((2048, 2048), np.uint8), rows, level=0)
    tracemalloc.start()
    try:
        assert has_more_rows(data) is has_more
        held_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert held_bytes < len(data) // 10


@pytest.mark.parametrize("spare", [b"\0", b"\0" * 30, b"\xff\xff"], ids=["byte", "bytes", "fill"])
@pytest.mark.parametrize("ends", [lambda d, s: d[:-2] + s + d[-2:], lambda d, s: d + s], ids=["before", "after"])
def test_some_bytes_around_the_end_of_a_jpeg_are_no_rows(spare: bytes, ends: Callable[[bytes, bytes], bytes]) -> None:
    data = jpeg("grey")
    assert np.array_equal(read_display(ends(data, spare)).pixels, read_display(data).pixels)


@pytest.mark.parametrize("rest", [b"1234", b"1234" * 500], ids=["some", "more"])
def test_what_follows_a_whole_picture_in_a_png_is_no_row(rest: bytes) -> None:
    data = png(GREY, 120)
    at, end = data.index(b"IDAT"), data.index(b"IEND") - 8
    body = data[at:end] + rest
    changed = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    assert np.array_equal(read_display(data[: at - 4] + changed + data[end + 4 :]).pixels, GREY)
