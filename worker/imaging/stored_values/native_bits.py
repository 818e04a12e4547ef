"""Samples that no codec has put together: their bytes may lie the other way round than the transfer syntax says. It is
believed unless the samples contradict it."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worker.imaging.stored_values.decoded_codes import DecodedCodes
from worker.imaging.stored_values.sign import LEAST_SAMPLES, as_signed, held_sign, some_rows, steps
from worker.imaging.stored_values.stored_bits import StoredBits, stored_codes

Pixels = NDArray[Any]

#: The neighbours of a picture whose bytes were exchanged differ at least so many times as much as those of the picture.
_EXCHANGED = 4


def native_codes(samples: Pixels, container: int, said: StoredBits) -> DecodedCodes:
    """Unsigned samples of `container` bits, in the byte order and with the sign that they have."""
    held = samples.astype(samples.dtype.newbyteorder("="), copy=False)
    notes: tuple[str, ...] = ()
    if container != 16 or held.size < LEAST_SAMPLES or held.shape[1] < 2:
        return DecodedCodes(*stored_codes(held, container, said), is_signed=said.is_signed)
    if said.high_bit < said.bits_stored and _is_exchanged(some_rows(held), said.is_signed):
        held, notes = held.byteswap(), ("byte_order=exchanged",)
    is_signed, assumed_sign = held_sign(held, container, said)
    codes, bits, assumed = stored_codes(held, container, replace(said, is_signed=is_signed))
    return DecodedCodes(codes, bits, (*notes, *assumed_sign, *assumed), is_signed)


def _is_exchanged(rows: Pixels, is_signed: bool) -> bool:
    """Whether neighbours are much more alike once the two bytes of each sample are exchanged.

    Samples whose lower bytes are all alike hold 8 bits in the upper ones, and are as they are.
    """
    if np.ptp(rows & 0xFF) == 0:
        return False
    as_held, exchanged = (np.abs(steps(as_signed(r, 16) if is_signed else r)).mean() for r in (rows, rows.byteswap()))
    return bool(as_held > _EXCHANGED * exchanged)
