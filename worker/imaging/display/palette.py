"""PALETTE COLOR: three look-up tables -> grey display values (PS3.3 C.7.6.3.1.5, C.7.6.3.1.6)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from worker.errors import MissingElement
from worker.imaging.byte_pairs import bytes_of_words
from worker.imaging.display.pipeline import StoredValues, stored_range
from worker.imaging.header import Header

_COLOURS = ("Red", "Green", "Blue")

#: A table of 16 bits that uses no more than these was made for as many as it uses: it would be all but black.
_MOST_OF_A_DARK_TABLE = 13

#: BT.601 luma.
_WEIGHTS = (0.299, 0.587, 0.114)


def palette_grey(stored: StoredValues, header: Header) -> StoredValues:
    """Stored values through the three tables to luma of 8 bits. Raises MissingElement.

    How many bits entries have is decided by what the tables hold; the descriptor may say otherwise.
    """
    tables = [_table(header, colour) for colour in _COLOURS]
    said = max(bits for _, _, bits in tables)
    used = max(int(entries.max()) for entries, _, _ in tables).bit_length()
    held = 8 if used <= 8 else used if used <= _MOST_OF_A_DARK_TABLE else 16
    if held != said:
        header.notes.append(f"palette_bits={held} (said: {said})")
    values = stored_range(stored.bits, stored.is_signed).astype(np.int64)
    luma = np.zeros(len(values))
    for (entries, descriptor, _), weight in zip(tables, _WEIGHTS, strict=True):
        first = descriptor - 0x10000 if stored.is_signed and descriptor > 0x7FFF else descriptor  # said as US
        index = np.clip(values - first, 0, len(entries) - 1)
        luma += weight * entries[index] / ((1 << held) - 1)
    return StoredValues(np.rint(luma * 255.0).astype(np.uint8)[stored.codes], 8)


def _table(header: Header, colour: str) -> tuple[NDArray[Any], int, int]:
    """(entries, first mapped code, bits said) of one colour."""
    descriptor = [int(v) for v in header.numbers(f"{colour}PaletteColorLookupTableDescriptor")]
    order, keyword = ">" if header.is_big_endian else "<", f"{colour}PaletteColorLookupTableData"
    raw = header.value(keyword)
    if not isinstance(raw, bytes):  # as numbers (US or SS), which the Standard allowed once
        raw = np.array([int(v) & 0xFFFF for v in header.numbers(keyword)], f"{order}u2").tobytes()
    if len(descriptor) != 3 or not raw:
        raise MissingElement(f"{colour} Palette Color Lookup Table is absent or segmented: send it in grey")
    count = descriptor[0] & 0xFFFF or 65536  # 0 means 65,536
    is_wide = len(raw) >= 2 * count
    if is_wide:
        entries: NDArray[Any] = np.frombuffer(raw[: len(raw) // 2 * 2], f"{order}u2")
    elif header.is_big_endian:
        entries, is_exchanged = bytes_of_words(raw)
        if is_exchanged:
            header.notes.append(f"{colour.lower()}_palette_byte_order=exchanged")
    else:
        entries = np.frombuffer(raw, np.uint8)
    if len(entries) < count:
        raise MissingElement(f"{colour} Palette Color Lookup Table is shorter than its descriptor says")
    return entries[:count], descriptor[1], descriptor[2]
