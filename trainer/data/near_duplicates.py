"""Pairs of images that show nearly the same picture in different bytes: re-compressed, resized, brightened copies.

A perceptual hash proposes pairs. The correlation of two thumbnails confirms them, for chest radiographs are similar.
"""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

#: Side of the thumbnail, and of the block of its lowest frequencies that makes the hash.
THUMBNAIL_PX = 64
HASH_SIDE = 16

#: Largest number of the hash's 255 bits that may differ, and the least correlation of the thumbnails.
MAX_DISTANCE = 40
MIN_CORRELATION = 0.985

_BLOCK = 1024  #: rows compared at once


class PictureHash(NamedTuple):
    """Perceptual hash and thumbnail of an image, for the comparison with others."""

    bits: NDArray[np.float32]  #: [255] of -1 and 1
    thumbnail: NDArray[np.float32]  #: [THUMBNAIL_PX²], mean 0 and length 1


class Pair(NamedTuple):
    """Two of the images that were compared, by their positions."""

    first: int
    second: int


def hash_picture(pixels: NDArray[np.uint8]) -> PictureHash:
    """Hash and thumbnail of display values [H, W]: the signs of the lowest DCT frequencies about their median."""
    small = cv2.resize(pixels, (THUMBNAIL_PX, THUMBNAIL_PX), interpolation=cv2.INTER_AREA).astype(np.float32)
    lowest = cv2.dct(small)[:HASH_SIDE, :HASH_SIDE].ravel()[1:]  # without the mean
    bits = np.where(lowest > np.median(lowest), 1, -1)
    centred = small.ravel() - small.mean()
    return PictureHash(bits.astype(np.float32), centred / max(float(np.linalg.norm(centred)), 1e-6))


def near_duplicates(hashes: Sequence[PictureHash]) -> list[Pair]:
    """Every pair whose hashes and thumbnails agree, in the order of positions."""
    if not hashes:
        return []
    bits = np.stack([picture.bits for picture in hashes])
    least = bits.shape[1] - 2 * MAX_DISTANCE  # the dot product of two hashes that differ in MAX_DISTANCE bits
    pairs = []
    for start in range(0, len(bits), _BLOCK):
        agreement = bits[start : start + _BLOCK] @ bits.T
        for row, second in np.argwhere(agreement >= least):
            first = start + int(row)
            if first < second:
                correlation = float(hashes[first].thumbnail @ hashes[int(second)].thumbnail)
                if correlation >= MIN_CORRELATION:
                    pairs.append(Pair(first, int(second)))
    return pairs
