"""Whether a codestream holds all its parts: the tiles of JPEG 2000, the restart intervals and scans of JPEG.

OpenJPEG leaves a missing tile black, libjpeg a missing interval grey, and without all scans a picture has no detail;
both report success.
"""

import struct
from dataclasses import replace

from worker.imaging.codec.codestream import Codestream, Coding
from worker.imaging.codec.jpeg_scans import read_scans, restarts

#: ISO 15444-1 A.4.2: marker, length, tile, length of the tile-part, which part, of how many (0: not said here).
_SOT = struct.Struct(">HHHIBB")
_START_OF_TILE = 0xFF90

#: ISO 15444-1 A.4.2: tiles are numbered by 16 bits.
MAX_TILES = 65535

#: Bytes of a scan's header (ISO 10918-1 B.2.3): of one component. Without its length.
_LEAST_SCAN_HEADER = 6

#: Note on an image whose codestream lacks no more than its end marker.
END_ABSENT = "codestream_end=absent"

#: EOI of JPEG, EOC of JPEG 2000.
_END = b"\xff\xd9"


def missing_parts(data: bytes, stream: Codestream) -> str | None:
    """A text that says which parts are missing, too short or broken off by a marker; None when all are present."""
    if stream.coding is Coding.JPEG_2000:
        return _missing_tiles(data, stream)
    if stream.stray_marker is not None:
        return f"a marker FF{stream.stray_marker:02X} stands inside its data"
    if stream.is_progressive:
        return _missing_scans(data, stream)
    if not stream.mcus:  # the first scan holds fewer components than the frame
        return _missing_components(data, stream)
    if stream.restart_interval:
        return _missing_intervals(data, stream)
    return None


def with_end(data: bytes, stream: Codestream) -> tuple[bytes, Codestream]:
    """A codestream with the end marker that some encoders leave out; as it is where more may be missing too.

    The tile-parts of JPEG 2000 say where they end. Whether the data of a JPEG suffice is for its decoder to find out.
    """
    held = data.removesuffix(b"\0")  # which makes the length even
    if held.endswith(b"\xff"):
        held = data  # stuffed
    elif held.endswith(b"\0"):
        return data, stream  # zeros may stand in place of what is missing
    ended = replace(stream, end=len(held))
    if stream.coding is Coding.JPEG_2000:
        is_whole = declares_lengths(held, ended)
    else:
        is_whole = stream.coding is not Coding.JPEG_LS and not stream.is_progressive and not stream.is_arithmetic
    return (held + _END, ended) if is_whole else (data, stream)


def declares_lengths(data: bytes, stream: Codestream) -> bool:
    """Whether a JPEG 2000 codestream declares the length of each tile-part, so that `missing_parts` finds a short one.

    The last tile-part may leave its length open. Then only a decoder that reads to the end finds missing data.
    """
    at, end = stream.data_at, len(data) if stream.end is None else stream.end
    while at + _SOT.size <= end:
        marker, _, _, length, _, _ = _SOT.unpack_from(data, at)
        if marker != _START_OF_TILE or length < _SOT.size:
            return False
        at += length
    return at == end


def _missing_tiles(data: bytes, stream: Codestream) -> str | None:
    if not 1 <= stream.tiles <= MAX_TILES:
        return f"{stream.tiles:,} tiles are declared"
    end = len(data) if stream.end is None else stream.end
    seen: dict[int, set[int]] = {}
    promised: dict[int, int] = {}
    at = stream.data_at
    while at + _SOT.size <= end:
        marker, _, tile, length, part, parts = _SOT.unpack_from(data, at)
        length = length or end - at  # the last tile-part may leave its length open
        if marker != _START_OF_TILE or length < _SOT.size or at + length > end:
            break
        seen.setdefault(tile, set()).add(part)
        promised[tile] = max(promised.get(tile, 1), parts)
        at += length
    whole = sum(len(seen.get(tile, ())) >= promised.get(tile, 1) for tile in range(stream.tiles))
    return None if whole == stream.tiles else f"{stream.tiles - whole:,} of {stream.tiles:,} tiles are missing"


def _missing_scans(data: bytes, stream: Codestream) -> str | None:
    """Every coefficient of every component must come, to its last bit (ISO 10918-1 G.1.1.1)."""
    due: dict[int, int] = {}  # of a component: the coefficients whose last bit has not come, as bits
    for scan in read_scans(data, stream):
        if len(scan.parameters) < _LEAST_SCAN_HEADER:
            return "the header of a scan is too short"
        first, last, approximation = scan.parameters[-3:]
        for component in scan.components:
            due.setdefault(component, (1 << 64) - 1)
            if approximation & 15 == 0:
                due[component] &= ~((1 << last + 1) - (1 << first))
    missing = sum(1 for coefficients in due.values() if coefficients) + max(0, stream.samples - len(due))
    return f"scans of {missing} of {stream.samples} components are missing" if missing else None


def _missing_components(data: bytes, stream: Codestream) -> str | None:
    """Every component must come in a scan."""
    come = {component for scan in read_scans(data, stream) for component in scan.components}
    missing = stream.samples - len(come)
    return f"scans of {missing} of {stream.samples} components are missing" if missing > 0 else None


def _missing_intervals(data: bytes, stream: Codestream) -> str | None:
    """For a picture in one scan: its restart markers must count from 0 to 7 in a cycle, without gaps."""
    if stream.scans > 1:
        return None
    expected = -(-stream.mcus // stream.restart_interval) - 1
    found = [data[at + 1] & 7 for at in restarts(data, stream)]
    if len(found) < expected:
        return f"{expected - len(found):,} of {expected + 1:,} restart intervals are missing"
    in_order = all(number == place % 8 for place, number in enumerate(found[:expected]))
    return None if in_order else "its restart markers are out of order"
