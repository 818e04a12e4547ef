"""The exact pyramid of a picture: its low-pass band in JPEG 2000's reversible 5/3 wavelet, whatever it was coded in.

`Pyramid` says how often a picture is halved, `lifted` halves stored values. Where a lossless JPEG 2000 codestream is
decoded at a lower resolution, OpenJPEG gives the same values to the bit. Knows no codestreams and no display.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Codes = NDArray[Any]
Lines = NDArray[Any]

#: A picture is halved as long as both sides keep this many times the grid's, so that resizing always shrinks it.
TIMES_THE_GRID = 2

#: In 16 bits one halving is exact for values whose range and whose magnitude are no larger: the sum of two details
#: reaches three times the range, and the low-pass of the rows goes beyond it by a quarter.
MOST_RANGE, MOST_MAGNITUDE = 10_900, 13_600

#: Samples of the picture that are halved together: with what they become, they stay in the processor's cache.
BAND_SAMPLES = 1 << 18


@dataclass(frozen=True)
class Pyramid:
    """The rule of a model whose card says `pyramid53`: which halving of a picture it sees."""

    grid_px: int  #: side of the model's grid
    is_decoded_reduced: bool = True  #: False: codestreams are decoded in full, and give the same

    def __post_init__(self) -> None:
        """Refuse a grid without pixels, which no picture is too small for; raises ValueError."""
        if self.grid_px < 1:
            raise ValueError(f"a grid of {self.grid_px} px")

    def level(self, rows: int, columns: int) -> int:
        """How often a picture of this size is halved. It follows the size alone, never how the picture is coded."""
        least, level = TIMES_THE_GRID * self.grid_px, 0
        while min(size_of(level + 1, rows), size_of(level + 1, columns)) >= least:
            level += 1
        return level

    def to_json(self) -> dict[str, Any]:
        """Plain values, for the decoder child."""
        return {"grid_px": self.grid_px, "is_decoded_reduced": self.is_decoded_reduced}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Pyramid":
        """Inverse of `to_json`."""
        return cls(values["grid_px"], values["is_decoded_reduced"])


def size_of(level: int, side: int) -> int:
    """A side of the picture after `level` halvings, each rounded up."""
    return -(-side >> level)


def shift_px(level: int) -> float:
    """How far a sample lies before the middle of the 2**level pixels that it stands for: on the first of them."""
    return ((1 << level) - 1) / 2


def lifted(codes: Codes, bits: int, is_signed: bool, level: int) -> Codes:
    """Stored values [H, W], as codes of `bits` bits, halved `level` times: codes of the same kind.

    Between the halvings values may leave the range of `bits`; they are clipped to it at the end (ISO 15444-1 F.3, G.1).
    """
    if level <= 0:
        return codes
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if is_signed else (0, (1 << bits) - 1)
    values, reach = _signed(codes, bits) if is_signed else codes, (low, high)
    for _ in range(level):
        if not _fits_16_bits(*reach):
            reach = int(values.min()), int(values.max())
        values = halved(values, np.dtype(np.int16 if _fits_16_bits(*reach) else np.int32))
        reach = _widened(*reach)
    clipped = np.clip(values, low, high).astype(codes.dtype)
    return clipped & codes.dtype.type((1 << bits) - 1) if is_signed else clipped


def halved(values: Lines, kind: np.dtype[Any]) -> Lines:
    """One halving of integers [H, W], computed in and given as `kind`: [ceil(H / 2), ceil(W / 2)].

    Rows first, then columns (ISO 15444-1 F.4.2). `kind` must be wide enough: see MOST_RANGE.
    """
    rows, columns = values.shape
    out = np.empty((size_of(1, rows), size_of(1, columns)), kind)
    for first, end in _bands(len(out), columns):
        start = max(0, 2 * first - 2)
        block = _as(values[start : 2 * end + 1], kind)
        # the first and the last line of a block inside the picture lack a neighbour, and are left out again
        down = _low_pass(block[::2], block[1::2])[first - start // 2 :][: end - first]
        out[first:end] = _low_pass_of_columns(down)
    return out


def _bands(rows: int, columns: int) -> Iterator[tuple[int, int]]:
    """Where each band of halved rows begins and ends; `columns` are those of the picture."""
    step = max(1, BAND_SAMPLES // (2 * columns))
    for first in range(0, rows, step):
        yield first, min(rows, first + step)


def _low_pass(even: Lines, odd: Lines) -> Lines:
    """The low-pass lines of a signal, from its even and its odd lines along the first axis.

    ISO 15444-1 F.4.8.1: d = odd - floor((even + next even) / 2), low = even + floor((d before + d + 2) / 4); beyond its
    ends the signal goes on as in a mirror.
    """
    count = len(odd)
    if not count:
        return even
    details = np.empty_like(even, shape=(len(even) + 1, even.shape[1]))
    inner, following = details[1 : count + 1], even[1 : count + 1]
    pairs = len(following)
    # of every second line of a picture OpenCV makes sums twice as fast as numpy, and these fit its bounds
    if pairs:
        cv2.add(even[:pairs], following, dst=inner[:pairs])
    np.add(even[pairs:count], even[pairs:count], out=inner[pairs:])
    np.right_shift(inner, 1, out=inner)
    cv2.subtract(odd, inner, dst=inner)
    details[0], details[-1] = details[1], details[count]
    low = np.add(details[:-1], details[1:])
    low += 2
    low >>= 2
    cv2.add(low, even, dst=low)
    return low


def _low_pass_of_columns(lines: Lines) -> Lines:
    """The same along the second axis. All lines are one row of numbers here, which is twice as fast in numpy; what then
    comes from the line before or after it is put right in the first and the last column."""
    rows, columns = lines.shape
    if columns < 2:
        return lines
    is_odd = columns % 2 == 1
    if is_odd:
        lines = np.hstack((lines, lines[:, -1:]))
    # OpenCV tells pairs apart five times as fast as strided copies in numpy
    even, odd = (np.asarray(half) for half in cv2.split(np.ascontiguousarray(lines).reshape(rows, -1, 2)))
    details = np.empty_like(even)
    flat, inner = even.reshape(-1), details.reshape(-1)[:-1]
    np.add(flat[:-1], flat[1:], out=inner)
    np.right_shift(inner, 1, out=inner)
    np.subtract(odd.reshape(-1)[:-1], inner, out=inner)
    details[:, -1] = details[:, -2] if is_odd else odd[:, -1] - even[:, -1]
    low = np.empty_like(even)
    rest = low.reshape(-1)[1:]
    np.add(inner, details.reshape(-1)[1:], out=rest)
    low[:, 0] = 2 * details[:, 0]
    low += 2
    low >>= 2
    low += even
    return low


def _as(values: Lines, kind: np.dtype[Any]) -> Lines:
    """The same integers as `kind`, without a copy where only the sign of the type differs: they fit."""
    if values.dtype.itemsize == kind.itemsize:
        return values.view(kind)
    return values.astype(kind)


def _signed(codes: Codes, bits: int) -> Lines:
    spare = 8 * codes.dtype.itemsize - bits
    return np.asarray((codes << spare).view(codes.dtype.str.replace("u", "i")) >> spare)


def _fits_16_bits(low: int, high: int) -> bool:
    return high - low <= MOST_RANGE and max(-low, high) <= MOST_MAGNITUDE


def _widened(low: int, high: int) -> tuple[int, int]:
    """What one halving may make of values in this range: the filter's negative weights are a quarter, each way."""
    beyond = 5 * (high - low) // 8 + 4
    return low - beyond, high + beyond
