"""Stored values of an image, packed for a browser: row differences in two byte planes, compressed.

A row minus the one above it (modulo 65,536) is small, so the plane of high bytes is nearly empty.
"""

from enum import StrEnum

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from worker.imaging.display.pipeline import Codes


class Encoding(StrEnum):
    """A Content-Encoding that browsers undo themselves."""

    ZSTD = "zstd"
    GZIP = "gzip"


def encoding_for(accepted: str) -> Encoding:
    """The better of the encodings that a browser takes."""
    named = {part.partition(";")[0].strip().lower() for part in accepted.split(",")}
    return Encoding.ZSTD if "zstd" in named else Encoding.GZIP


def planes(codes: Codes) -> bytes:
    """Low bytes of all differences, then high bytes; 8-bit codes have only low ones."""
    differences: NDArray[np.uint8] | NDArray[np.uint16] = codes.copy()
    np.subtract(codes[1:], codes[:-1], out=differences[1:])
    if differences.dtype == np.uint8:
        return differences.tobytes()
    pairs = differences.astype("<u2", copy=False).view(np.uint8).reshape(-1, 2)
    return np.ascontiguousarray(pairs.T).tobytes()


def pack(codes: Codes, encoding: Encoding) -> bytes:
    """The planes, compressed at the fastest level."""
    if encoding is Encoding.ZSTD:
        return bytes(imagecodecs.zstd_encode(planes(codes), level=1))
    return bytes(imagecodecs.gzip_encode(planes(codes), level=1))
