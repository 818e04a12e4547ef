"""A codestream that lacks a part is refused: OpenJPEG would show black there, libjpeg grey, without a word."""

import re
import struct
from collections.abc import Callable
from typing import Any

import cv2
import imagecodecs
import numpy as np
import pytest

from tests import phantoms
from tests.phantoms import FULL, Pixels, dicom_file, picture
from worker.errors import Undecodable
from worker.imaging.image_file import read_display

SIDE = 64
NOISE = np.random.default_rng(3).integers(0, 256, (200, 200)).astype(np.uint8)


def tile_parts(pixels: Pixels) -> tuple[bytes, list[bytes]]:
    """Main header and tile-parts of a JPEG 2000 codestream in tiles of 64 px, each coded as a picture of its own."""
    header = b""
    parts: list[bytes] = []
    for top in range(0, pixels.shape[0], SIDE):
        for left in range(0, pixels.shape[1], SIDE):
            block = np.ascontiguousarray(pixels[top : top + SIDE, left : left + SIDE])
            alone = bytes(imagecodecs.jpeg2k_encode(block, codecformat="j2k", reversible=True, level=0))
            start, end = alone.index(b"\xff\x90"), alone.rindex(b"\xff\xd9")
            header = header or alone[:start]
            parts.append(alone[start : start + 4] + struct.pack(">H", len(parts)) + alone[start + 6 : end])
    size = struct.pack(">IIIIII", pixels.shape[1], pixels.shape[0], 0, 0, SIDE, SIDE)
    return header[:8] + size + header[32:], parts


def shown(pixels: Pixels, syntax: str, frame: bytes) -> Pixels:
    return read_display(dicom_file(pixels, syntax, bits=8, frame=frame)).pixels


@pytest.mark.parametrize("syntax", [phantoms.JPEG_2000_LOSSLESS, phantoms.JPEG_2000, phantoms.HTJ2K])
def test_tiles_that_are_missing_are_counted(syntax: str) -> None:
    pixels = picture(2 * SIDE, 3 * SIDE, bits=8)
    header, parts = tile_parts(pixels)
    whole = header + b"".join(parts) + b"\xff\xd9"
    assert np.array_equal(shown(pixels, syntax, whole), read_display(dicom_file(pixels, bits=8)).pixels)
    for left_out, told in ((parts[:2] + parts[3:], "1 of 6"), (parts[:3], "3 of 6"), ([], "6 of 6")):
        with pytest.raises(Undecodable, match=f"{told} tiles are missing"):
            shown(pixels, syntax, header + b"".join(left_out) + b"\xff\xd9")
    with pytest.raises(Undecodable, match="1 of 6 tiles"):
        shown(pixels, syntax, whole[:-40] + b"\xff\xd9")


def test_a_tile_in_several_parts_needs_all_of_them() -> None:
    pixels = picture(SIDE, SIDE, bits=8)
    header, (part,) = tile_parts(pixels)
    promising = part[:11] + b"\x02" + part[12:]  # this is the first of two
    with pytest.raises(Undecodable, match="1 of 1 tiles"):
        shown(pixels, phantoms.JPEG_2000, header + promising + b"\xff\xd9")


@pytest.mark.parametrize("side", [0, 1])
def test_tiles_of_no_sense_are_refused_before_they_are_decoded(side: int) -> None:
    pixels = picture(300, 300, bits=8)
    frame = phantoms.LOSSLESS_ENCODERS[phantoms.JPEG_2000_LOSSLESS](pixels, 8)
    with pytest.raises(Undecodable):
        shown(pixels, phantoms.JPEG_2000_LOSSLESS, frame[:24] + struct.pack(">II", side, side) + frame[32:])


def with_restarts(pixels: Pixels) -> tuple[bytes, list[int]]:
    """A JPEG with a restart marker after every five blocks, and where these stand."""
    options = (cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_RST_INTERVAL, 5)
    data = bytes(cv2.imencode(".jpg", pixels, options)[1])
    return data, [found.start() for found in re.finditer(rb"\xff[\xd0-\xd7]", data)]


@pytest.mark.parametrize("pixels", [NOISE, np.dstack([NOISE] * 3), NOISE[:9, :9], NOISE[:, :41]], ids=lambda p: p.shape)
def test_a_whole_jpeg_with_restarts_is_a_picture(pixels: Pixels) -> None:
    data, _ = with_restarts(pixels)
    there = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert there is not None
    assert np.abs(read_display(data).pixels.astype(int) - there).max() <= 1


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda d, at: d[: at[60]] + b"\xff\xd9", "64 of 125 restart intervals"),
        (lambda d, at: d[: at[30]] + d[at[31] :], "1 of 125 restart intervals"),
        (lambda d, at: d[: at[30]] + d[at[38] :], "8 of 125 restart intervals"),
        (lambda d, at: d[: at[30] + 1] + b"\xd1" + d[at[30] + 2 :], "out of order"),
        (lambda d, at: d[: at[30] + 20] + d[at[31] :], "a part of its picture is missing"),
    ],
    ids=["cut", "one", "eight", "order", "short"],
)
def test_a_jpeg_that_lacks_intervals_is_refused(damage: Callable[[bytes, list[int]], bytes], told: str) -> None:
    with pytest.raises(Undecodable, match=told):
        read_display(damage(*with_restarts(NOISE)))


def test_a_jpeg_that_lacks_its_last_blocks_is_refused() -> None:
    data = bytes(cv2.imencode(".jpg", NOISE, (cv2.IMWRITE_JPEG_QUALITY, 95))[1])
    with pytest.raises(Undecodable, match="a part of its picture is missing"):
        read_display(data[:-300] + b"\xff\xd9")


@pytest.mark.parametrize("fill", [1, 2])
@pytest.mark.parametrize(
    ("syntax", "bits"), [(phantoms.JPEG_BASELINE, 8), (phantoms.JPEG_EXTENDED, 12), (phantoms.JPEG_LOSSLESS_SV1, 12)]
)
def test_fill_before_the_end_of_a_jpeg_that_ends_in_one_value_is_no_damage(syntax: str, bits: int, fill: int) -> None:
    """Encoders make the length even by it (DCMTK does), and radiographs end in a border of one value."""
    pixels = picture(96, 128, bits=bits)
    pixels[-16:] = 1 << (bits - 1)
    frame = (phantoms.LOSSLESS_ENCODERS | phantoms.LOSSY_ENCODERS)[syntax](pixels, bits).rstrip(b"\0")
    filled = dicom_file(pixels, syntax, bits=bits, frame=frame[:-2] + b"\xff" * fill + frame[-2:], **FULL)
    plain = dicom_file(pixels, syntax, bits=bits, frame=frame, **FULL)
    assert np.array_equal(read_display(filled).pixels, read_display(plain).pixels)
    with pytest.raises(Undecodable):
        read_display(dicom_file(pixels, syntax, bits=bits, frame=frame[:-60] + b"\xff" * fill + frame[-2:], **FULL))


@pytest.mark.parametrize("code", [0x01, 0x2B, 0x7F, 0xB0, 0xBF])
def test_a_lossless_jpeg_with_a_marker_inside_its_data_is_refused(code: int) -> None:
    """libjpeg refuses some; the other decoder goes on, and reads what lies behind the data in memory."""
    pixels = picture(96, 128, bits=12)
    frame = phantoms.LOSSLESS_ENCODERS[phantoms.JPEG_LOSSLESS_SV1](pixels, 12)
    at = frame.index(b"\xff\x00", len(frame) * 45 // 100)
    damaged = frame[: at + 1] + bytes([code]) + frame[at + 2 :]
    read_display(dicom_file(pixels, phantoms.JPEG_LOSSLESS_SV1, bits=12, frame=frame))
    with pytest.raises(Undecodable, match=f"damaged, a marker FF{code:02X} stands inside its data"):
        read_display(dicom_file(pixels, phantoms.JPEG_LOSSLESS_SV1, bits=12, frame=damaged))


def in_scans(syntax: str, planes: list[Pixels], bits: int = 8) -> list[bytes]:
    """The head of a JPEG and a scan, with its tables, for each of its components (ISO 10918-1 A.2.2)."""
    start = b"\xff\xc0" if syntax == phantoms.JPEG_BASELINE else b"\xff\xc3"
    parts: list[bytes] = []
    for number, plane in enumerate(planes, 1):
        alone = (phantoms.LOSSLESS_ENCODERS | phantoms.LOSSY_ENCODERS)[syntax](plane, bits)
        frame, tables, scan = (alone.index(marker) for marker in (start, b"\xff\xc4", b"\xff\xda"))
        if not parts:
            size = struct.pack(">BHHB", bits, *plane.shape, len(planes))
            components = b"".join(bytes([each + 1, 0x11, 0]) for each in range(len(planes)))
            length = struct.pack(">H", 2 + len(size) + len(components))
            parts.append(alone[:frame] + start + length + size + components)
        end = alone.rindex(b"\xff\xd9")
        parts.append(alone[tables : scan + 5] + bytes([number]) + alone[scan + 6 : end])
    return parts


@pytest.mark.parametrize("end", [b"\xff\xd9", b""], ids=["ended", "cut"])
@pytest.mark.parametrize("syntax", [phantoms.JPEG_BASELINE, phantoms.JPEG_LOSSLESS_SV1])
def test_a_jpeg_without_the_scans_of_all_its_components_is_refused(syntax: str, end: bytes) -> None:
    planes = [NOISE, NOISE[::-1].copy(), NOISE.T.copy()]
    tinted = np.dstack(planes)
    whole = in_scans(syntax, planes)
    read = shown(tinted, syntax, b"".join(whole) + end)
    assert np.ptp(read[-8:]) > 100, "the whole one is read to its last rows"
    if syntax == phantoms.JPEG_LOSSLESS_SV1:
        assert np.array_equal(read, cv2.cvtColor(tinted, cv2.COLOR_RGB2GRAY))
    for kept, told in ((3, "1 of 3"), (2, "2 of 3")):
        with pytest.raises(Undecodable, match=f"scans of {told} components are missing"):
            shown(tinted, syntax, b"".join(whole[:kept]) + end)
    with pytest.raises(Undecodable):
        shown(tinted, syntax, b"".join(whole)[:-200] + end)


@pytest.mark.parametrize("short", [0, 1, 2])
@pytest.mark.parametrize("syntax", [phantoms.JPEG_BASELINE, phantoms.JPEG_LOSSLESS_SV1])
def test_a_jpeg_is_refused_where_the_scan_of_any_component_is_cut_short(syntax: str, short: int) -> None:
    planes = [NOISE, NOISE[::-1].copy(), NOISE.T.copy()]
    head, *scans = in_scans(syntax, planes)
    scans[short] = scans[short][:-200]
    with pytest.raises(Undecodable, match="a part of its picture is missing"):
        shown(np.dstack(planes), syntax, head + b"".join(scans) + b"\xff\xd9")


@pytest.mark.parametrize("halving", [0, 1, 2])
def test_a_lossless_jpeg_beyond_its_precision_is_refused_where_any_scan_has_a_predictor_that_halves(
    halving: int,
) -> None:
    noise = NOISE.astype(np.uint16) << 4
    head, *scans = in_scans(phantoms.JPEG_LOSSLESS_SV1, [noise] * 3, bits=12)
    at = scans[halving].index(b"\xff\xda") + 7
    scans[halving] = scans[halving][:at] + b"\x07" + scans[halving][at + 1 :]
    frame = head + b"".join(scans) + b"\xff\xd9"
    with pytest.raises(Undecodable, match="lossless JPEG of 12 bits holds larger values"):
        read_display(dicom_file(np.dstack([noise] * 3), phantoms.JPEG_LOSSLESS, bits=12, frame=frame))


def test_a_progressive_jpeg_is_refused_where_a_scan_in_its_middle_is_cut_short() -> None:
    encoded: Any = cv2.imencode(".jpg", NOISE, (cv2.IMWRITE_JPEG_PROGRESSIVE, 1))[1]
    whole = encoded.tobytes()
    read_display(whole)
    tables = [found.start() for found in re.finditer(b"\xff\xc4", whole)]  # they stand between scans
    ends = [at for at in tables if b"\xff\xda" in whole[:at]]
    assert len(ends) > 2
    for end in ends:
        with pytest.raises(Undecodable, match="a part of its picture is missing"):
            read_display(whole[: end - 20] + whole[end:])


@pytest.mark.parametrize("length", [0, 2, 4, 5])
def test_a_progressive_jpeg_is_refused_where_the_header_of_a_later_scan_is_too_short(length: int) -> None:
    encoded: Any = cv2.imencode(".jpg", NOISE, (cv2.IMWRITE_JPEG_PROGRESSIVE, 1))[1]
    damaged = bytearray(encoded.tobytes())
    third = [found.start() for found in re.finditer(b"\xff\xda", damaged)][2]
    damaged[third + 2 : third + 4] = struct.pack(">H", length)
    with pytest.raises(Undecodable, match="damaged, the header of a scan is too short"):
        read_display(bytes(damaged))
