"""Whether samples are signed. Pixel Representation (PS3.3 C.7.6.3) is believed unless the samples contradict it.

Knows samples and their container. Does not know how they were stored.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from worker.imaging.stored_values.stored_bits import StoredBits

Pixels = NDArray[Any]

#: Rows that are looked at; of fewer samples nothing is said.
_ROWS, LEAST_SAMPLES = 24, 1000

#: Values that a signed picture has at least on either side of zero; fewer are a border, padding or burnt in. Of 8 bits
#: and of more.
_LEAST_VALUES_OF_8_BITS, _LEAST_VALUES = 4, 16

#: A picture read with the wrong sign leaps between at least so many times as many neighbours, which are at least this
#: share of all.
_LEAPS, _LEAST_LEAPS = 3, 1 / 1000


def held_sign(held: Pixels, container: int, said: StoredBits) -> tuple[bool, tuple[str, ...]]:
    """Whether unsigned samples [H, W] of `container` bits mean signed values, and a note where the header is wrong."""
    is_signed = said.is_signed
    is_plain = held.ndim == 2 and held.size >= LEAST_SAMPLES and held.shape[1] > 1
    if is_plain and said.high_bit == said.bits_stored - 1:
        if said.is_signed:
            is_signed = _signed_as_said(held, container, said)
        else:
            is_signed = _signed_though_said_unsigned(held, container, said)
    return is_signed, sign_note(is_signed, said.is_signed)


def sign_note(is_signed: bool, was_said: bool) -> tuple[str, ...]:
    """What was assumed, where the header says something else."""
    return () if is_signed == was_said else (f"pixel_representation={int(is_signed)} (said: {int(was_said)})",)


def _signed_though_said_unsigned(held: Pixels, container: int, said: StoredBits) -> bool:
    """Whether samples said to be unsigned are signed.

    They are if all repeat the sign above Bits Stored; of 16 stored bits, if none is far from zero.
    """
    bits, rows = said.bits_stored, some_rows(held)
    if container != 16 or int(rows.max()) < 1 << 15:
        return False
    signed = as_signed(rows, 16)
    reach = 1 << (bits - 1 if bits < 16 else 14)
    fits = bool(((signed >= -reach) & (signed < reach)).all())
    return fits and _has_both_signs(rows, 16)


def _signed_as_said(held: Pixels, container: int, said: StoredBits) -> bool:
    """Whether samples said to be signed are signed.

    They are not if none repeats the sign above Bits Stored, and the picture with signed values leaps between neighbours
    that are close with unsigned ones.
    """
    bits, rows = min(said.bits_stored, container), some_rows(held)
    if bits == 16 or int(held.max()) >> bits:
        return True
    with_sign, without = (np.abs(steps(values)) for values in (as_signed(rows, bits), rows))
    breaks, mended = _leaps(with_sign, without, bits), _leaps(without, with_sign, bits)
    return not (breaks > _LEAPS * mended and breaks >= _LEAST_LEAPS and _has_both_signs(rows, bits))


def _has_both_signs(rows: Pixels, bits: int) -> bool:
    """Whether more than a border lies on either side of zero, if the values have a sign."""
    is_negative = rows >= 1 << (bits - 1)
    least = _LEAST_VALUES_OF_8_BITS if bits <= 8 else _LEAST_VALUES
    return all(len(np.unique(side)) >= least for side in (rows[is_negative], rows[~is_negative]))


def _leaps(differences: Pixels, otherwise: Pixels, bits: int) -> float:
    """The share of neighbours that are more than half of all values apart, and otherwise close."""
    return float(((differences > 1 << (bits - 1)) & (otherwise < 1 << max(bits - 3, 0))).mean())


def some_rows(held: Pixels) -> Pixels:
    """Some rows, as a table."""
    return held[:: max(1, len(held) // _ROWS)].reshape(-1, held[0].size)


def steps(rows: Pixels) -> Pixels:
    """The differences between neighbours of a row."""
    return np.asarray(np.diff(rows.astype(np.int32), axis=1))


def as_signed(rows: Pixels, bits: int) -> Pixels:
    """The values of two's complements of so many bits."""
    return np.asarray((rows.astype(np.uint16) << (16 - bits)).view(np.int16) >> (16 - bits))
