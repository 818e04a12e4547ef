"""Bytes that big endian keeps two in a word: the first in its lower byte, which comes second (PS3.5 7.3 and 8.1.1)."""

import numpy as np
from numpy.typing import NDArray

#: Pieces that are compared, spread over all the bytes, and how long each is at most.
_PIECES, _PIECE = 64, 4096


def bytes_of_words(raw: bytes | memoryview, apart: int = 1, times: float = 1.0) -> tuple[NDArray[np.uint8], bool]:
    """The bytes in their order, and whether they lay the other way round than the Standard says.

    Not all writers put them into words. They did not where the bytes as they lie are more than so many `times` as
    smooth as in the Standard's order, which also stands on a tie. Bytes that lie so far `apart` are neighbours: in a
    picture, as many as a pixel has samples.
    """
    held = np.frombuffer(raw, np.uint8)
    if len(held) % 2:
        return held, False
    standard = held.reshape(-1, 2)[:, ::-1].reshape(-1)
    if times * _roughness(held, apart) < _roughness(standard, apart):
        return held, True
    return standard, False


def _roughness(order: NDArray[np.uint8], apart: int) -> int:
    """The sum of the differences between neighbours."""
    length = max(_PIECE, len(order) // _PIECES // 2 * 2)
    pieces = [order[start : start + _PIECE].astype(np.int32) for start in range(0, len(order), length)]
    return sum(int(np.abs(piece[apart:] - piece[:-apart]).sum()) for piece in pieces)
