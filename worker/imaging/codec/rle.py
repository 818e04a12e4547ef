"""RLE Lossless (PS3.5 G): a segment for each byte of a sample, packed as PackBits does. A damaged frame is refused."""

from typing import Any

import cv2
import imagecodecs
import numpy as np
from numpy.typing import NDArray

from worker.errors import Undecodable
from worker.imaging.codec.decoders import DECODER_ERRORS, Pixels

#: The number of segments, and the offset of each of fifteen, in words of 32 bits (PS3.5 G.5).
_HEADER_BYTES = 64


def decode_rle(frame: bytes, shape: tuple[int, int, int], bytes_per_sample: int) -> Pixels:
    """RLE Lossless (PS3.5 G): [H, W] or [H, W, samples]. Raises Undecodable when segments are short or broken.

    Decodes segment by segment into buffers of the size that the header declares: `imagecodecs.dicomrle_decode` writes
    beyond its own buffer on a damaged frame.
    """
    rows, columns, samples = shape
    count = samples * bytes_per_sample
    held, *offsets = (int.from_bytes(frame[at : at + 4], "little") for at in range(0, _HEADER_BYTES, 4))
    if held != count or len(frame) < _HEADER_BYTES:
        raise Undecodable(f"RLE Lossless: {held} segments, the header needs {count}")
    starts, ends = offsets[:count], [*offsets[1:count], len(frame)]
    planes: list[Pixels] = [
        _segment(frame[start:end], rows, columns).reshape(rows, columns)
        for start, end in zip(starts, ends, strict=True)
    ]
    if bytes_per_sample == 2:  # the most significant byte comes first (PS3.5 G.2)
        planes = [_two_bytes(planes[at], planes[at + 1]) for at in range(0, count, 2)]
    return planes[0] if samples == 1 else np.stack(planes, axis=-1)


def _two_bytes(high: Pixels, low: Pixels) -> Pixels:
    """Two bytes per value. OpenCV's merge is five times as fast as shifts in numpy."""
    return np.asarray(cv2.merge((low, high))).view("<u2")[..., 0]


def _segment(segment: bytes, rows: int, columns: int) -> NDArray[np.uint8]:
    """The rows x columns bytes of one segment (PS3.5 G.3.2)."""
    size = rows * columns
    spare = max(2, min(rows, columns))  # padding may decode to some bytes, which are less than a row or a column
    out: Any = np.empty(size + spare, np.uint8)
    try:
        decoded = imagecodecs.packbits_decode(segment, out=out)
    except DECODER_ERRORS as error:
        if "TOO_SMALL" not in str(error):
            raise Undecodable(f"RLE Lossless: {error}") from error
        decoded = out
    if len(decoded) < size:
        raise Undecodable(f"RLE Lossless: a segment of {len(decoded):,} bytes, the header needs {size:,}")
    if len(decoded) >= size + spare:
        raise Undecodable(
            f"RLE Lossless: a segment holds more than the {size:,} bytes that the header needs: Rows or Columns are not"
            " those of the picture; have them corrected at the sender"
        )
    return np.asarray(out[:size])
