"""Frame headers of compressed codestreams: JPEG and JPEG-LS (ISO 10918-1 B.2.2, 14495-1 C.2.2), and the SIZ marker of
JPEG 2000 (ISO 15444-1 A.5.1). Reads them without decoding, so that sizes are known before a decoder allocates memory.
"""

import re
import struct
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum

from worker.errors import TooLarge


class Coding(StrEnum):
    """Families of codestreams."""

    JPEG = "jpeg"  #: DCT, 8 or 12 bits
    JPEG_LOSSLESS = "jpeg_lossless"  #: process 14
    JPEG_LS = "jpeg_ls"
    JPEG_2000 = "jpeg_2000"  #: and HTJ2K


@dataclass(frozen=True)
class Codestream:
    """The frame header."""

    coding: Coding
    rows: int
    columns: int
    samples: int
    precision: int  #: bits per sample
    is_signed: bool = False
    names_colour: bool = False  #: JFIF or Adobe marker: the decoder knows the colour space by itself
    orientation: int = 1  #: EXIF orientation (JEITA CP-3451 4.6.4), 1: as stored
    end: int | None = None  #: offset of the EOI or EOC marker; None when it is not there
    scans: int = 1  #: number of JPEG scans; each covers the whole picture
    data_at: int = 0  #: offset of JPEG's first entropy-coded byte, of JPEG 2000's first tile-part
    restart_interval: int = 0  #: of JPEG, in coded units
    units: int = 0  #: coded units (MCU, ISO 10918-1 A.2) of a JPEG whose first scan holds every component; else 0
    tiles: int = 0  #: of JPEG 2000
    levels: int = 0  #: of JPEG 2000: how often its wavelet halves the picture
    height_at: int = 0  #: of JPEG: offset of its height, which is 0 where it comes after the first scan
    unit_rows: int = 0  #: of JPEG: how many rows one row of coded units covers
    stray_marker: int | None = None  #: of JPEG: a code after FF that no encoder writes between or inside scans
    is_arithmetic: bool = False  #: of JPEG: its codes are not those of Huffman (ISO 10918-1 D)
    is_progressive: bool = False  #: of JPEG: its scans bring some coefficients, or some of their bits (ISO 10918-1 G)
    is_subsampled: bool = False  #: of JPEG: a component has fewer samples than another (ISO 10918-1 A.1.1)
    mixes_colour: bool = False  #: of JPEG 2000: a multiple component transformation (ISO 15444-1 A.6.1, table A.17)
    is_reversible: bool = False  #: of JPEG 2000: the 5/3 wavelet in integers, not the 9/7 (ISO 15444-1, table A.20)
    is_simple: bool = False  #: of JPEG 2000: one tile, from the origin of the grid, coded alike throughout

    @property
    def is_ycbcr(self) -> bool:
        """JPEG without a marker that says so: only of YCbCr are components subsampled."""
        return self.coding is Coding.JPEG and self.samples == 3 and self.is_subsampled and not self.names_colour

    @property
    def gives_rgb(self) -> bool:
        """Whether decoders turn its colours into RGB; those of JPEG-LS and lossless JPEG leave them as they are."""
        return self.coding is Coding.JPEG or self.mixes_colour


_FRAMES = {0xC3: Coding.JPEG_LOSSLESS, 0xF7: Coding.JPEG_LS} | dict.fromkeys(
    (0xC0, 0xC1, 0xC2, 0xC5, 0xC6, 0xC9, 0xCA), Coding.JPEG
)
#: Segments of a header, or between scans. A radiograph has some dozens, and each takes a microsecond to walk over.
MAX_SEGMENTS = 100_000

_PROGRESSIVE, _ARITHMETIC = (0xC2, 0xC6, 0xCA), (0xC9, 0xCA)
_DNL = b"\xff\xdc\x00\x04"
#: Reserved codes, and one for the use of arithmetic decoders alone (ISO 10918-1, table B.1).
_STRAY, _SOI = range(0x01, 0xC0), 0xD8
_SOT, _EOI, _SOS, _DRI, _APP0, _APP1, _APP14 = 0x90, 0xD9, 0xDA, 0xDD, 0xE0, 0xE1, 0xEE
#: Of JPEG 2000: coding style, that of a component, a region of interest, and what ends the header of a tile-part.
_COD, _COC, _RGN, _SOD = 0x52, 0x53, 0x5E, 0x93
#: Rsiz of a codestream with the extensions of ISO 15444-2, other wavelets among them.
_EXTENDED = 0x8000
#: The byte that begins a marker, once or more (ISO 10918-1 B.1.1.2).
_FILL = re.compile(rb"\xff+")
#: After the first scan: FF is followed by 00 (stuffing), RSTn or fill in Huffman data, by < 80 in JPEG-LS.
_NEXT_MARKER = {
    True: re.compile(rb"\xff[\x80-\xcf\xd8-\xfe]"),
    False: re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]"),
}


def too_many_segments() -> TooLarge:
    """The error of a file whose parts would take minutes to walk over."""
    return TooLarge(f"the image holds more than {MAX_SEGMENTS:,} segments: it is no radiograph")


def read_codestream(data: bytes) -> Codestream | None:
    """The frame header; None when the bytes begin with no known codestream, or end before the header is complete.

    Raises TooLarge when there are more than MAX_SEGMENTS.
    """
    try:
        if data[:2] == b"\xff\xd8":
            return _read_jpeg(data)
        if data[:4] == b"\xff\x4f\xff\x51":
            return _read_jpeg_2000(data, 0)
        if data[4:8] == b"jP  " and (at := data[:4096].find(b"\xff\x4f\xff\x51")) >= 0:
            return _read_jpeg_2000(data, at)  # a JP2 file instead of a bare codestream (PS3.5 A.4.4 forbids it)
    except (struct.error, IndexError):
        return None
    return None


def _read_jpeg(data: bytes) -> Codestream | None:
    frame: Codestream | None = None
    sampling = b""
    names_colour, orientation, interval, at = False, 1, 0, 2
    for _ in range(MAX_SEGMENTS):
        fill = _FILL.match(data, at)
        if fill is None:
            return None
        at = fill.end() - 1
        marker, (length,) = data[at + 1], struct.unpack_from(">H", data, at + 2)
        segment = data[at + 4 : at + 2 + length]
        if marker in _FRAMES and frame is None:
            precision, rows, columns, samples = struct.unpack_from(">BHHB", segment)
            frame = Codestream(
                _FRAMES[marker], rows, columns, samples, precision, height_at=at + 5,
                is_progressive=marker in _PROGRESSIVE, is_arithmetic=marker in _ARITHMETIC,
            )  # fmt: skip
            sampling = segment[7::3][:samples]
        elif marker == _DRI:
            (interval,) = struct.unpack_from(">H", segment)
        elif marker == _APP1 and segment[:6] == b"Exif\0\0":
            orientation = exif_orientation(segment[6:])
        elif marker in (_APP0, _APP14):
            names_colour = names_colour or segment[:4] == b"JFIF" or segment[:5] == b"Adobe"
        at += 2 + length
        if marker == _SOS:
            break
        if marker == _EOI or length < 2:
            return None
    else:
        raise too_many_segments()
    if frame is None:
        return None
    if frame.rows == 0:
        frame = replace(frame, rows=_height_after_scan(data, at))
    end, scans, stray = _end_of_image(data, at, frame.coding)
    return replace(
        frame, names_colour=names_colour, orientation=orientation, end=end, scans=scans, data_at=at,
        restart_interval=0 if frame.coding is Coding.JPEG_LS else interval,
        units=_units(frame, sampling) if segment[0] == frame.samples else 0,
        is_subsampled=len(set(sampling)) > 1, unit_rows=_unit_rows(frame, sampling), stray_marker=stray,
    )  # fmt: skip


def with_height(data: bytes, stream: Codestream, rows: int) -> bytes:
    """A JPEG with this height in its frame header, where decoders look for it; any other codestream as it is."""
    height = rows.to_bytes(2, "big")
    if not stream.height_at or data[stream.height_at : stream.height_at + 2] == height:
        return data
    return data[: stream.height_at] + height + data[stream.height_at + 2 :]


def before_fill(data: bytes, marker_at: int) -> int:
    """Where the entropy-coded data before a marker end: fill (FF) may stand between, as DICOM's padding to even length
    (PS3.5 A.4.1). Data never end in FF, as 00 would follow it."""
    at = marker_at
    while data[at - 1] == 0xFF:
        at -= 1
    return at


def _height_after_scan(data: bytes, at: int) -> int:
    """The number of lines of a DNL segment (ISO 10918-1 B.2.5), 0 when there is none."""
    found = data.find(_DNL, at)
    return int.from_bytes(data[found + 4 : found + 6], "big") if found >= 0 else 0


def _units(frame: Codestream, sampling: bytes) -> int:
    """ISO 10918-1 A.2: how many units one scan over all components holds; `sampling` is H << 4 | V of each."""
    across = max((factors >> 4 for factors in sampling), default=0) if frame.samples > 1 else 1
    side, down = _unit_side(frame), _unit_rows(frame, sampling)
    return -(-frame.columns // (side * across)) * -(-frame.rows // down) if across and down else 0


def _unit_rows(frame: Codestream, sampling: bytes) -> int:
    down = max((factors & 15 for factors in sampling), default=0) if frame.samples > 1 else 1
    return _unit_side(frame) * down


def _unit_side(frame: Codestream) -> int:
    return 1 if frame.coding is Coding.JPEG_LOSSLESS else 8


def _end_of_image(data: bytes, at: int, coding: Coding) -> tuple[int | None, int, int | None]:
    """(offset of EOI, number of scans before it, a stray marker). Skips the tables between scans, whose bytes may look
    like an EOI."""
    is_ls = coding is Coding.JPEG_LS
    pattern, scans, stray = _NEXT_MARKER[is_ls], 1, None
    for _ in range(MAX_SEGMENTS):
        if (found := pattern.search(data, at)) is None:
            return None, scans, stray
        code, at = data[found.start() + 1], found.end()
        if code == _EOI:
            return found.start(), scans, stray
        if not is_ls and (code in _STRAY or code == _SOI):
            stray = code
            continue
        if at + 2 > len(data):
            return None, scans, stray
        scans += code == _SOS
        at += int.from_bytes(data[at : at + 2], "big")
    raise too_many_segments()


def scan_headers(data: bytes, stream: Codestream) -> list[bytes]:
    """The parameters of each SOS of a JPEG (ISO 10918-1 B.2.3), in their order."""
    return [header for header, _ in _scans(data, stream)]


def scan_ends(data: bytes, stream: Codestream) -> list[int]:
    """Offsets of the markers after each scan of a JPEG but the last, which EOI ends."""
    return [end for _, end in _scans(data, stream)][:-1]


def _scans(data: bytes, stream: Codestream) -> list[tuple[bytes, int]]:
    """Of each scan the parameters of its SOS and the offset of the marker that ends it."""
    at, end = data.rfind(b"\xff\xda", 0, stream.data_at), stream.end or len(data)
    scans = []
    while 0 <= at < end:
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        following = _NEXT_MARKER[stream.coding is Coding.JPEG_LS].search(data, at + 2 + length)
        ends_at = end if following is None else following.start()
        if data[at + 1] == _SOS:
            scans.append((data[at + 4 : at + 2 + length], ends_at))
        at = ends_at
    return scans


def _read_jpeg_2000(data: bytes, at: int) -> Codestream | None:
    (extensions,) = struct.unpack_from(">H", data, at + 6)
    right, bottom, left, top = struct.unpack_from(">IIII", data, at + 8)
    tile_width, tile_height, tile_left, tile_top = struct.unpack_from(">IIII", data, at + 24)
    (samples,) = struct.unpack_from(">H", data, at + 40)
    depth, steps = data[at + 42], data[at + 43 : at + 45]
    if not tile_width or not tile_height:
        return None
    end = data.rfind(b"\xff\xd9", at + 42)
    main = _markers(data, at + 2)
    first_tile, style = main[-1][1], next((where for marker, where in main if marker == _COD), None)
    tiles = -(-(right - tile_left) // tile_width) * -(-(bottom - tile_top) // tile_height)
    is_plain = steps == b"\1\1" and not (left or top or tile_left or tile_top or extensions & _EXTENDED)
    is_coded_alike = not {_COC, _RGN} & {marker for marker, _ in main} and _keeps_style(data, first_tile)
    return Codestream(
        Coding.JPEG_2000,
        rows=bottom - top,
        columns=right - left,
        samples=samples,
        precision=(depth & 0x7F) + 1,
        is_signed=depth > 0x7F,
        end=None if end < 0 else end,
        data_at=first_tile,
        tiles=tiles,
        levels=0 if style is None else data[style + 9],
        mixes_colour=style is not None and data[style + 8] == 1,
        is_reversible=style is not None and data[style + 13] == 1,
        is_simple=tiles == 1 and is_plain and is_coded_alike,
    )


def _keeps_style(data: bytes, first_tile: int) -> bool:
    """Whether the first tile-part is coded as the main header says."""
    with suppress(IndexError, struct.error):  # it ends early, which is found elsewhere
        return not {_COD, _COC, _RGN} & {marker for marker, _ in _markers(data, first_tile)}
    return False


def _markers(data: bytes, at: int) -> list[tuple[int, int]]:
    """The markers of a header, each with its offset (ISO 15444-1 A.3); the last one begins what comes after it."""
    found: list[tuple[int, int]] = []
    while data[at] == 0xFF:
        if len(found) == MAX_SEGMENTS:
            raise too_many_segments()
        found.append((data[at + 1], at))
        if data[at + 1] in (_SOD, _EOI) or (data[at + 1] == _SOT and len(found) > 1):
            return found
        at += 2 + max(2, *struct.unpack_from(">H", data, at + 2))
    return [*found, (0, at)]


def exif_orientation(tiff: bytes) -> int:
    """Tag 0x0112 of the first directory of an EXIF block, 1 when absent or malformed."""
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return 1
    try:
        (directory,) = struct.unpack_from(order + "I", tiff, 4)
        (count,) = struct.unpack_from(order + "H", tiff, directory)
        for index in range(min(count, 64)):
            tag, _, _, value = struct.unpack_from(order + "HHIH", tiff, directory + 2 + 12 * index)
            if tag == 0x0112:
                return value if 1 <= value <= 8 else 1
    except struct.error:
        return 1
    return 1
