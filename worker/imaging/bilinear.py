"""Bilinear resizing of 8-bit pictures in integers: the same bytes on every machine and with every release of OpenCV.

Within one grey level of OpenCV's own INTER_LINEAR for bytes, so that a model trained with that sees what it saw. OpenCV
does not promise its bytes, and processors may differ by one grey level.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

#: Fractional bits of a share.
SHARE_BITS = 11


class _Axis(NamedTuple):
    """For each pixel of one side: the two samples beside it, and the share of each."""

    samples: NDArray[np.intp]  #: [2, N]
    shares: NDArray[np.int32]  #: [2, N], of 1 << SHARE_BITS together


def bilinear(picture: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """A picture [H, W] at another size, [height, width].

    Of `n` pixels over `s` samples, pixel i lies at sample ((2i + 1)s - n) / 2n, held within the picture. Its share of
    the next sample is rounded to 1 / 2048, halves to even. Along the rows, sums keep 7 of their 11 fractional bits;
    down the columns each product keeps 2, and their sum is rounded, halves up.
    """
    down, across = _axis(height, picture.shape[0]), _axis(width, picture.shape[1])
    upper, lower = (_along(picture[rows], across) * share[:, None] >> 16 for rows, share in zip(*down, strict=True))
    return np.asarray((upper + lower + 2) >> 2, np.uint8)


def _along(rows: NDArray[np.uint8], across: _Axis) -> NDArray[np.int32]:
    left, right = (rows[:, samples] * shares for samples, shares in zip(*across, strict=True))
    return np.asarray((left + right) >> 4, np.int32)


@lru_cache(maxsize=64)
def _axis(pixels: int, samples: int) -> _Axis:
    twice = (2 * np.arange(pixels, dtype=np.int64) + 1) * samples - pixels
    first, rest = np.divmod(twice, 2 * pixels)
    share, left = np.divmod(rest << SHARE_BITS, 2 * pixels)
    share += (left > pixels) | ((left == pixels) & (share % 2 == 1))
    share = np.where((first < 0) | (first >= samples - 1), 0, share).astype(np.int32)
    first = np.clip(first, 0, samples - 1).astype(np.intp)
    both = np.stack([first, np.minimum(first + 1, samples - 1)])
    return _Axis(both, np.stack([(1 << SHARE_BITS) - share, share]))
