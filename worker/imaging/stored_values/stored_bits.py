"""Which bits of a sample's container are the stored value (PS3.5 8.1.1), also where the header says it wrongly.

Bits Stored and High Bit are believed unless the samples contradict them. Ordinary samples are looked at once, for their
largest value; everything else is looked at only where that value or the header is out of the ordinary.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worker.imaging.header import Header

Pixels = NDArray[Any]

#: Rows that are looked at to tell a deeper picture from bits that belong to none.
_ROWS = 256

#: Of so many pixels in each direction one is looked at first.
_GRID = 61

#: Neighbours are close, however few Bits Stored says, that differ by so many bits less than the picture has.
_CLOSE_BITS = 5

#: Bits above Bits Stored that belong to no picture still fit this container.
MOST_BITS = 16


@dataclass(frozen=True)
class StoredBits:
    """What a header says about the bits of its samples."""

    bits_stored: int
    high_bit: int
    is_signed: bool
    overlay_mask: int = 0  #: bits of the container in which overlays lie
    padding_word: int | None = None  #: Pixel Padding Value as a word of 16 bits


def read_overlay_mask(header: Header, bits_allocated: int) -> int:
    """The bits that hold overlays: of groups 60xx whose Overlay Bits Allocated are those of the pixels (PS3.5 8.1.2).

    An overlay with data of its own has 1 bit allocated and is not in the pixels.
    """
    mask = 0
    for group in range(0x6000, 0x6020, 2):
        position = header.integer(group << 16 | 0x0102)
        if position is not None and header.integer(group << 16 | 0x0100) == bits_allocated > 1:
            mask |= 1 << position if 0 <= position < bits_allocated else 0
    return mask


def stored_codes(samples: Pixels, container: int, said: StoredBits) -> tuple[Pixels, int, tuple[str, ...]]:
    """(codes without other bits, how many bits count, what was assumed) of unsigned samples of `container` bits."""
    codes = samples.astype(samples.dtype.newbyteorder("="), copy=False)
    stored = min(said.bits_stored, container)
    lowest = said.high_bit + 1 - stored  # the lowest bit of the stored value, by the header
    shift = lowest if 0 <= lowest <= container - stored else 0
    width = stored if lowest >= 0 else max(said.high_bit, 0) + 1
    overlays = said.overlay_mask & ~(((1 << width) - 1) << shift)
    if overlays & ((1 << container) - 1):
        codes = codes & codes.dtype.type(~overlays & ((1 << 8 * codes.dtype.itemsize) - 1))
    if stored == container == 8 * codes.dtype.itemsize:
        return _as_unsigned(codes, stored), stored, _note_high_bit(said, stored, 0)
    top = int(codes.max())
    bits, shift = _bits_and_shift(codes, top, container, shift, said)
    if shift:
        codes = codes >> codes.dtype.type(shift)
    if top >> shift >> bits:
        codes = codes & codes.dtype.type((1 << bits) - 1)
    if bits > stored:
        return _as_unsigned(codes, bits), bits, (f"bits_stored={bits} (said: {said.bits_stored})",)
    return _as_unsigned(codes, bits), bits, _note_high_bit(said, stored, shift)


def _bits_and_shift(codes: Pixels, top: int, container: int, shift: int, said: StoredBits) -> tuple[int, int]:
    """How many bits count, and how many lie below them: as said (`shift`), unless the samples contradict it.

    `top` is the largest sample.
    """
    stored = min(said.bits_stored, container)
    if shift:
        return stored, 0 if _is_right_aligned(codes, top, stored, shift, said.is_signed) else shift
    spare = container - stored
    if not spare or not top >> stored:
        return stored, 0
    if _is_left_aligned(codes, stored, spare, said.is_signed):
        return stored, spare
    deeper = _deeper(codes, top, stored, said)
    return stored if deeper is None else deeper, 0


def _is_right_aligned(codes: Pixels, top: int, stored: int, shift: int, is_signed: bool) -> bool:
    """Samples that High Bit calls left-aligned: they use the bits below, and none above Bits Stored but the sign's."""
    if top >> stored and not (is_signed and _is_sign_extended(codes, stored)):
        return False
    return bool(int(np.bitwise_or.reduce(codes, axis=None)) & ((1 << shift) - 1))


def _is_left_aligned(codes: Pixels, stored: int, spare: int, is_signed: bool) -> bool:
    """Samples that High Bit calls right-aligned: nothing lies in their lowest bits, and a picture in those above."""
    lowest = (1 << spare) - 1
    if (codes[::_GRID, ::_GRID] & codes.dtype.type(lowest)).any():
        return False  # nearly always a few pixels answer
    used = int(np.bitwise_or.reduce(codes, axis=None))
    if used & lowest or not used & ((1 << stored) - 1):
        return False
    return not (is_signed and _is_sign_extended(codes, stored))


def _is_sign_extended(codes: Pixels, stored: int) -> bool:
    """Whether all bits above Bits Stored repeat the sign."""
    values = codes.view(codes.dtype.str.replace("u", "i"))
    return bool(values.size) and int(values.min()) >= -(1 << (stored - 1)) and int(values.max()) < 1 << (stored - 1)


def _deeper(codes: Pixels, top: int, stored: int, said: StoredBits) -> int | None:
    """How many bits the picture has where it has more than Bits Stored; None where the bits above are none of it.

    In a deeper picture these bits change between neighbours whose values are close; those of an overlay, or left over,
    change the value by the whole range. Padding outside of Bits Stored is kept too.
    """
    if top.bit_length() > MOST_BITS:
        return None
    if _has_padding_outside(codes, stored, said):
        return MOST_BITS
    if said.is_signed:
        return None
    rows = codes[:: max(1, len(codes) // _ROWS)].astype(np.int64)
    changes = np.diff(rows >> stored, axis=1) != 0
    is_close = np.abs(np.diff(rows, axis=1))[changes] < 1 << max(stored - 1, top.bit_length() - _CLOSE_BITS)
    return top.bit_length() if is_close.size and is_close.mean() > 0.5 else None


def _has_padding_outside(codes: Pixels, stored: int, said: StoredBits) -> bool:
    """Whether only Pixel Padding Value goes beyond Bits Stored: cut off, it would be a value of the picture."""
    word = said.padding_word
    if word is None or codes.dtype.itemsize != 2:
        return False
    if said.is_signed:
        alone = np.array([word], np.uint16)
        return not _is_sign_extended(alone, stored) and _is_sign_extended(codes[codes != word], stored)
    return word >> stored > 0 and int(codes[codes != word].max(initial=0)) >> stored == 0


def _note_high_bit(said: StoredBits, stored: int, shift: int) -> tuple[str, ...]:
    """What High Bit was taken for, where it says something else."""
    assumed = stored - 1 + shift
    expected = said.high_bit - max(0, said.bits_stored - stored)  # a codestream of fewer bits moves it down
    return () if assumed in (said.high_bit, expected) else (f"high_bit={assumed} (said: {said.high_bit})",)


def _as_unsigned(codes: Pixels, bits: int) -> Pixels:
    """uint8 or uint16; a view of the file's bytes where that is possible."""
    return np.require(codes, np.uint8 if bits <= 8 else np.uint16, ["C_CONTIGUOUS", "ALIGNED"])
