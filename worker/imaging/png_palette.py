"""Whether the pixels of a palette PNG name colours that its palette has not (ISO 15948 4.1.1 and 11.2.3). Decoders
show them black, as if they were air. Decodes nothing itself.
"""

from struct import unpack_from
from zlib import crc32

#: The colour type of a palette PNG, where its chunks begin, and the chunk of the palette.
PALETTE, _FIRST_CHUNK, _PLTE = 3, 8, b"PLTE"


def with_every_colour(data: bytes, depth: int) -> bytes | None:
    """The same PNG with white for each colour that its palette lacks; None when it has as many as `depth` bits name.

    Where this one's picture differs, a pixel names a colour that is not there.
    """
    at = _FIRST_CHUNK
    while at + 12 <= len(data):
        length: int = unpack_from(">I", data, at)[0]
        if data[at + 4 : at + 8] != _PLTE:
            at += 12 + length
            continue
        colours = data[at + 8 : at + 8 + length]
        missing = 3 * (1 << depth) - length
        if missing <= 0:
            return None
        chunk = _PLTE + colours + b"\xff" * missing
        whole = (len(chunk) - 4).to_bytes(4, "big") + chunk + crc32(chunk).to_bytes(4, "big")
        return data[:at] + whole + data[at + 12 + length :]
    return None
