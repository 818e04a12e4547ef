"""Whether the data of a PNG hold more rows than its header says (ISO 15948 7.2, 8.2, 10). Decoders leave these out with
no more than a warning. Inflates the data and keeps none of it.
"""

from collections.abc import Iterator
from struct import unpack_from

from isal import isal_zlib

#: Samples of a pixel by colour type; a palette's are one index.
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}

#: The passes of Adam7: first column, first row, steps across and down.
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_WHOLE = ((0, 0, 1, 1),)

_SIGNATURE_BYTES = 8

#: Coded bytes that are inflated at a time: to four megabytes at the most, as deflate makes no more than 1,032 of one.
_PIECE = 1 << 12


def has_more_rows(data: bytes) -> bool:
    """Whether at least one row is left over when the picture of a PNG that was decoded is complete."""
    columns, rows, depth, colour, _, _, is_interlaced = unpack_from(">IIBBBBB", data, _SIGNATURE_BYTES + 8)
    bits = depth * _CHANNELS[colour]
    needed = sum(
        down * _row_bytes(across, bits)
        for across, down in (
            (-(-(columns - left) // right), -(-(rows - top) // below))
            for left, top, right, below in (_ADAM7 if is_interlaced else _WHOLE)
        )
        if across > 0 and down > 0
    )
    return _holds(data, needed + _row_bytes(columns, bits))


def _row_bytes(columns: int, bits: int) -> int:
    """Of one row, with the byte that names its filter."""
    return 1 + -(-columns * bits // 8)


def _holds(data: bytes, least: int) -> bool:
    """Whether the image data inflate to so many bytes."""
    inflater, held = isal_zlib.decompressobj(), 0
    try:
        for piece in _image_data(data):
            held += len(inflater.decompress(piece))
            if held >= least or inflater.eof:
                break
    except isal_zlib.error:  # type: ignore[misc]  # its stub declares an instance
        return False  # what is broken behind the picture is no row
    return held >= least


def _image_data(data: bytes) -> Iterator[memoryview]:
    """The coded image data in pieces, none of them copied."""
    at, view = _SIGNATURE_BYTES, memoryview(data)
    while at + 12 <= len(data):
        (length,) = unpack_from(">I", data, at)
        if data[at + 4 : at + 8] == b"IDAT":
            end = min(at + 8 + length, len(data))
            yield from (view[start : min(start + _PIECE, end)] for start in range(at + 8, end, _PIECE))
        if data[at + 4 : at + 8] == b"IEND":
            return
        at += 12 + length
