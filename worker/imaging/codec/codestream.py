"""What a codestream says of its picture: the headers of JPEG, JPEG-LS (ISO 10918-1 B.2, 14495-1 C.2) and JPEG 2000 (ISO
15444-1 A). Reads them without decoding, so that sizes are known before a decoder allocates memory.
"""

import re
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NamedTuple

from worker.errors import TooLarge


class Coding(StrEnum):
    """Families of codestreams."""

    JPEG = "jpeg"  #: DCT, 8 or 12 bits
    JPEG_LOSSLESS = "jpeg_lossless"  #: process 14
    JPEG_LS = "jpeg_ls"
    JPEG_2000 = "jpeg_2000"  #: and HTJ2K


@dataclass(frozen=True)
class Codestream:
    """What its headers say: of JPEG the frame header (SOF) and the segments beside it, of JPEG 2000 SIZ and COD."""

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
    restart_interval: int = 0  #: of JPEG, in minimum coded units (MCU, ISO 10918-1 A.2)
    mcus: int = 0  #: how many MCUs a JPEG has whose first scan holds every component; else 0
    tiles: int = 0  #: of JPEG 2000
    levels: int = 0  #: of JPEG 2000: how often its wavelet halves the picture
    height_at: int = 0  #: of JPEG: offset of its height, which is 0 where it comes after the first scan
    mcu_height: int = 0  #: of JPEG: how many rows of the picture an MCU covers
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


#: Segments of a header, or between scans. A radiograph has some dozens, and each takes a microsecond to walk over.
MAX_SEGMENTS = 100_000


def too_many_segments() -> TooLarge:
    """The error of a file whose parts would take minutes to walk over."""
    return TooLarge(f"the image holds more than {MAX_SEGMENTS:,} segments: it is no radiograph")


def read_codestream(data: bytes) -> Codestream | None:
    """The headers; None when the bytes begin with no known codestream, or end before the header is complete.

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


#: Markers of JPEG, the byte after FF (ISO 10918-1, table B.1): SOFn by coding, and others by name.
_FRAMES = {0xC3: Coding.JPEG_LOSSLESS, 0xF7: Coding.JPEG_LS} | dict.fromkeys(
    (0xC0, 0xC1, 0xC2, 0xC5, 0xC6, 0xC9, 0xCA), Coding.JPEG
)
_PROGRESSIVE, _ARITHMETIC = (0xC2, 0xC6, 0xCA), (0xC9, 0xCA)
_SOI, _EOI, _SOS, _DRI, _APP0, _APP1, _APP14 = 0xD8, 0xD9, 0xDA, 0xDD, 0xE0, 0xE1, 0xEE
_STRAY = range(0x01, 0xC0)  # reserved codes, and TEM, which arithmetic decoders use inside themselves
_DNL = b"\xff\xdc\x00\x04"  # and its length
_FILL = re.compile(rb"\xff+")  # begins a marker, once or more (ISO 10918-1 B.1.1.2)
#: A marker behind entropy-coded data, in which FF is followed by 00 (stuffing), RSTn or fill; in JPEG-LS by < 80.
_NEXT_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
_NEXT_MARKER_LS = re.compile(rb"\xff[\x80-\xcf\xd8-\xfe]")


class _Segment(NamedTuple):
    """A marker segment of a JPEG (ISO 10918-1 B.1.1.4)."""

    marker: int
    at: int  #: offset of its parameters
    parameters: bytes
    end: int


def _read_jpeg(data: bytes) -> Codestream | None:
    """The frame header and what stands beside it; None where none comes before the first scan."""
    frame: Codestream | None = None
    scan: _Segment | None = None
    sampling, interval, orientation, names_colour = b"", 0, 1, False
    for segment in _segments_to_first_scan(data):
        marker, parameters = segment.marker, segment.parameters
        if marker in _FRAMES and frame is None:
            frame = _frame_header(segment)
            sampling = parameters[7::3][: frame.samples]  # the second of each component's three bytes
        elif marker == _DRI:
            (interval,) = struct.unpack_from(">H", parameters)
        elif marker == _APP1 and parameters.startswith(b"Exif\0\0"):
            orientation = exif_orientation(parameters[6:])
        elif marker in (_APP0, _APP14):
            names_colour = names_colour or parameters.startswith((b"JFIF", b"Adobe"))
        elif marker == _SOS:
            scan = segment
    if frame is None or scan is None:
        return None
    if frame.rows == 0:
        frame = replace(frame, rows=_height_after_scan(data, scan.end))
    end, scans, stray = _end_of_image(data, scan.end, frame.coding)
    holds_every_component = scan.parameters[0] == frame.samples
    return replace(
        frame, names_colour=names_colour, orientation=orientation, end=end, scans=scans, data_at=scan.end,
        restart_interval=0 if frame.coding is Coding.JPEG_LS else interval,
        mcus=_mcus(frame, sampling) if holds_every_component else 0, mcu_height=_mcu_sides(frame, sampling)[0],
        is_subsampled=len(set(sampling)) > 1, stray_marker=stray,
    )  # fmt: skip


def _segments_to_first_scan(data: bytes) -> Iterator[_Segment]:
    """The segments of a JPEG's header in their order; SOS is the last one, unless the header ends without it.

    Raises TooLarge when there are more than MAX_SEGMENTS, and IndexError or struct.error where the bytes end.
    """
    at = 2  # behind SOI
    for _ in range(MAX_SEGMENTS):
        fill = _FILL.match(data, at)
        if fill is None:
            return
        at = fill.end() - 1
        marker, (length,) = data[at + 1], struct.unpack_from(">H", data, at + 2)
        end = at + 2 + length
        yield _Segment(marker, at + 4, data[at + 4 : end], end)
        if marker in (_SOS, _EOI) or length < 2:
            return
        at = end
    raise too_many_segments()


def _frame_header(segment: _Segment) -> Codestream:
    """SOFn (ISO 10918-1 B.2.2): P, Y, X, Nf."""
    precision, rows, columns, samples = struct.unpack_from(">BHHB", segment.parameters)
    return Codestream(
        _FRAMES[segment.marker], rows, columns, samples, precision, height_at=segment.at + 1,
        is_progressive=segment.marker in _PROGRESSIVE, is_arithmetic=segment.marker in _ARITHMETIC,
    )  # fmt: skip


def _height_after_scan(data: bytes, at: int) -> int:
    """The number of lines of a DNL segment (ISO 10918-1 B.2.5), 0 when there is none."""
    found = data.find(_DNL, at)
    return int.from_bytes(data[found + 4 : found + 6], "big") if found >= 0 else 0


def _mcus(frame: Codestream, sampling: bytes) -> int:
    """How many MCUs a scan of all components holds (ISO 10918-1 A.2)."""
    height, width = _mcu_sides(frame, sampling)
    return -(-frame.columns // width) * -(-frame.rows // height) if width and height else 0


def _mcu_sides(frame: Codestream, sampling: bytes) -> tuple[int, int]:
    """(rows, columns) that an MCU covers; `sampling` has H << 4 | V of each component (ISO 10918-1 B.2.2)."""
    side = 1 if frame.coding is Coding.JPEG_LOSSLESS else 8  # of a data unit
    if frame.samples <= 1:
        return side, side
    tallest = max((factors & 15 for factors in sampling), default=0)
    widest = max((factors >> 4 for factors in sampling), default=0)
    return side * tallest, side * widest


def _end_of_image(data: bytes, at: int, coding: Coding) -> tuple[int | None, int, int | None]:
    """(offset of EOI, number of scans before it, a stray marker). Skips the tables between scans, whose bytes may look
    like an EOI."""
    scans, stray = 1, None
    for _ in range(MAX_SEGMENTS):
        found = next_marker(data, at, coding)
        if found is None:
            return None, scans, stray
        marker, at = data[found + 1], found + 2
        if marker == _EOI:
            return found, scans, stray
        if coding is not Coding.JPEG_LS and (marker in _STRAY or marker == _SOI):
            stray = marker
            continue
        if at + 2 > len(data):
            return None, scans, stray
        scans += marker == _SOS
        at += int.from_bytes(data[at : at + 2], "big")
    raise too_many_segments()


def next_marker(data: bytes, at: int, coding: Coding) -> int | None:
    """Offset of the marker that ends a JPEG's entropy-coded data; None when there is none."""
    pattern = _NEXT_MARKER_LS if coding is Coding.JPEG_LS else _NEXT_MARKER
    found = pattern.search(data, at)
    return None if found is None else found.start()


#: Markers of JPEG 2000 (ISO 15444-1, table A.2), the byte after FF.
_SOD, _SOT, _COD, _COC, _RGN = 0x93, 0x90, 0x52, 0x53, 0x5E
#: SIZ (ISO 15444-1 A.5.1): Rsiz; X-, Y-, XO-, YOsiz; XT-, YT-, XTO-, YTOsiz; Csiz; Ssiz. Offsets from SOC.
_SIZ, _RSIZ_AT, _XRSIZ_AT = struct.Struct(">HIIIIIIIIHB"), 6, 43
_EXTENDED = 0x8000  # in Rsiz: the extensions of ISO 15444-2, other wavelets among them
#: Of COD, offsets from its marker (ISO 15444-1 A.6.1): colour transformation, decomposition levels, wavelet (1: 5/3).
_COLOUR_AT, _LEVELS_AT, _WAVELET_AT = 8, 9, 13


def _read_jpeg_2000(data: bytes, at: int) -> Codestream | None:
    """SIZ and COD; None for tiles without a size. `at` is the offset of SOC."""
    rsiz, right, bottom, left, top, tile_width, tile_height, tile_left, tile_top, samples, depth = _SIZ.unpack_from(
        data, at + _RSIZ_AT
    )
    if not tile_width or not tile_height:
        return None
    steps = data[at + _XRSIZ_AT : at + _XRSIZ_AT + 2]
    end = data.rfind(b"\xff\xd9", at + _XRSIZ_AT - 1)
    main = _markers(data, at + 2)
    first_tile, style = main[-1][1], next((where for marker, where in main if marker == _COD), None)
    tiles = -(-(right - tile_left) // tile_width) * -(-(bottom - tile_top) // tile_height)
    is_plain = steps == b"\1\1" and not (left or top or tile_left or tile_top or rsiz & _EXTENDED)
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
        levels=0 if style is None else data[style + _LEVELS_AT],
        mixes_colour=style is not None and data[style + _COLOUR_AT] == 1,
        is_reversible=style is not None and data[style + _WAVELET_AT] == 1,
        is_simple=tiles == 1 and is_plain and is_coded_alike,
    )


def _keeps_style(data: bytes, first_tile: int) -> bool:
    """Whether the first tile-part is coded as the main header says: no style or region of interest of its own."""
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
