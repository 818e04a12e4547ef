"""Bytes that big endian keeps two in a word: the first in its lower byte, which comes second (PS3.5 7.3 and 8.1.1)."""

import numpy as np
from numpy.typing import NDArray

#: Of more bytes than this only some are compared.
_MOST_COMPARED = 200_000


def bytes_of_words(raw: bytes | memoryview, apart: int = 1) -> NDArray[np.uint8]:
    """The bytes in their order. Not all writers exchange them, so the smoother order is taken.

    Bytes that lie so far `apart` are neighbours: in a picture, as many as a pixel has samples.
    """
    held = np.frombuffer(raw, np.uint8)
    if len(held) % 2:
        return held
    exchanged = held.reshape(-1, 2)[:, ::-1].reshape(-1)
    return min((exchanged, held), key=lambda order: _roughness(order, apart))


def _roughness(order: NDArray[np.uint8], apart: int) -> int:
    middle = max(0, len(order) - _MOST_COMPARED) // 4 * 2
    some = order[middle : middle + _MOST_COMPARED].astype(np.int32)
    return int(np.abs(some[apart:] - some[:-apart]).sum())
