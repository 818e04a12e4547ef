"""Samples that no codec has put together: their bytes may lie the other way round than the transfer syntax says, and
Pixel Representation (PS3.3 C.7.6.3) may say the wrong sign. Both are believed unless the samples contradict them."""

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from worker.imaging.stored_values.stored_bits import StoredBits, stored_codes

Pixels = NDArray[Any]

#: Rows that are looked at; of fewer samples nothing is said.
_ROWS, _LEAST_SAMPLES = 24, 1000

#: The neighbours of a picture whose bytes were exchanged differ at least so many times as much as those of the picture.
_EXCHANGED = 4

#: Values that a signed picture has at least on either side of zero; fewer are a border, padding or burnt in.
_LEAST_VALUES = 16

#: A picture read with the wrong sign leaps between at least so many times as many neighbours, which are at least this
#: share of all.
_LEAPS, _LEAST_LEAPS = 3, 1 / 1000


class NativeCodes(NamedTuple):
    """Codes without other bits, how many bits count, what was assumed, and whether they are signed."""

    codes: Pixels
    bits: int
    notes: tuple[str, ...]
    is_signed: bool


def native_codes(samples: Pixels, container: int, said: StoredBits) -> NativeCodes:
    """Unsigned samples of `container` bits -> `NativeCodes`."""
    held = samples.astype(samples.dtype.newbyteorder("="), copy=False)
    notes: tuple[str, ...] = ()
    if container != 16 or held.size < _LEAST_SAMPLES or held.shape[1] < 2:
        return NativeCodes(*stored_codes(held, container, said), said.is_signed)
    if said.high_bit < said.bits_stored and _is_exchanged(_some(held), said.is_signed):
        held, notes = held.byteswap(), ("byte_order=exchanged",)
    is_signed = said.is_signed
    if samples.ndim == 2 and said.high_bit == said.bits_stored - 1:
        is_signed = _holds_sign(held, said)
    if is_signed != said.is_signed:
        notes = (*notes, f"pixel_representation={int(is_signed)} (said: {int(said.is_signed)})")
    codes, bits, assumed = stored_codes(held, container, replace(said, is_signed=is_signed))
    return NativeCodes(codes, bits, (*notes, *assumed), is_signed)


def _some(held: Pixels) -> Pixels:
    """Some rows, as a table."""
    return held[:: max(1, len(held) // _ROWS)].reshape(-1, held[0].size)


def _is_exchanged(rows: Pixels, is_signed: bool) -> bool:
    """Whether neighbours are much more alike once the two bytes of each sample are exchanged.

    Samples whose lower bytes are all alike hold 8 bits in the upper ones, and are as they are.
    """
    if np.ptp(rows & 0xFF) == 0:
        return False
    as_held, exchanged = (np.abs(_steps(_as_signed(r, 16) if is_signed else r)).mean() for r in (rows, rows.byteswap()))
    return bool(as_held > _EXCHANGED * exchanged)


def _holds_sign(held: Pixels, said: StoredBits) -> bool:
    """Whether the samples are signed.

    Said to be unsigned: above Bits Stored all repeat the sign; of 16 bits, none is far from zero. Said to be signed:
    none repeats it, and with it the picture leaps where it goes on without.
    """
    bits, rows = said.bits_stored, _some(held)
    if not said.is_signed:
        if int(rows.max()) < 1 << 15:
            return False
        signed = _as_signed(rows, 16)
        reach = 1 << (bits - 1 if bits < 16 else 14)
        fits = bool(((signed >= -reach) & (signed < reach)).all())
        negative = rows[rows >= 1 << 15]
        return fits and all(len(np.unique(side)) >= _LEAST_VALUES for side in (negative, rows[rows < 1 << 15]))
    if bits == 16 or int(held.max()) >> bits:
        return True
    with_sign, without = (np.abs(_steps(values)) for values in (_as_signed(rows, bits), rows))
    breaks, mended = _leaps(with_sign, without, bits), _leaps(without, with_sign, bits)
    return not (breaks > _LEAPS * mended and breaks >= _LEAST_LEAPS)


def _leaps(steps: Pixels, otherwise: Pixels, bits: int) -> float:
    """The share of neighbours that are more than half of all values apart, and otherwise close."""
    return float(((steps > 1 << (bits - 1)) & (otherwise < 1 << max(bits - 3, 0))).mean())


def _steps(rows: Pixels) -> Pixels:
    return np.asarray(np.diff(rows.astype(np.int32), axis=1))


def _as_signed(rows: Pixels, bits: int) -> Pixels:
    return np.asarray((rows << (16 - bits)).view(np.int16) >> (16 - bits))
