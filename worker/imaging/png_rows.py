"""Whether the data of a PNG hold more rows than its header says (ISO 15948 7.2, 8.2, 10). Decoders leave these out with
no more than a warning. Inflates the data and keeps none of it.
"""

import zlib
from collections.abc import Iterator
from struct import unpack_from

#: Samples of a pixel by colour type; a palette's are one index.
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}

#: The passes of Adam7: first column, first row, steps across and down.
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_WHOLE = ((0, 0, 1, 1),)

_SIGNATURE_BYTES, _PIECE = 8, 1 << 20


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
    inflater, held = zlib.decompressobj(), 0
    coded = b"".join(_image_data(data))
    try:
        while coded and held < least and not inflater.eof:
            held += len(inflater.decompress(coded, _PIECE))
            coded = inflater.unconsumed_tail
    except zlib.error:
        return False  # what is broken behind the picture is no row
    return held >= least


def _image_data(data: bytes) -> Iterator[bytes]:
    at = _SIGNATURE_BYTES
    while at + 12 <= len(data):
        (length,) = unpack_from(">I", data, at)
        if data[at + 4 : at + 8] == b"IDAT":
            yield data[at + 8 : at + 8 + length]
        if data[at + 4 : at + 8] == b"IEND":
            return
        at += 12 + length
