"""PALETTE COLOR: three look-up tables -> grey display values (PS3.3 C.7.6.3.1.5, C.7.6.3.1.6)."""

from typing import Any, NamedTuple

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


class _Table(NamedTuple):
    """The look-up table of one colour, as its header says."""

    entries: NDArray[Any]
    first: int  #: first mapped value, US or SS
    bits: int  #: of an entry


def palette_grey(stored: StoredValues, header: Header) -> StoredValues:
    """Stored values through the three tables to luma of 8 bits. Raises MissingElement.

    How many bits entries have is decided by what the tables hold; the descriptor may say otherwise.
    """
    tables = [_table(header, colour) for colour in _COLOURS]
    said, bits = max(table.bits for table in tables), _bits_of(tables)
    if bits != said:
        header.notes.append(f"palette_bits={bits} (said: {said})")
    is_signed = stored.is_signed and not _are_unsigned(tables, stored.bits)
    if is_signed != stored.is_signed:
        header.notes.append("pixel_representation=0 (said: 1)")
    values = stored_range(stored.bits, is_signed).astype(np.int64)
    luma = np.zeros(len(values))
    for table, weight in zip(tables, _WEIGHTS, strict=True):
        first = table.first - 0x10000 if is_signed and table.first > 0x7FFF else table.first  # said as US
        index = np.clip(values - first, 0, len(table.entries) - 1)
        luma += weight * table.entries[index] / ((1 << bits) - 1)
    return StoredValues(np.rint(luma * 255.0).astype(np.uint8)[stored.codes], 8)


def _are_unsigned(tables: list[_Table], bits: int) -> bool:
    """Whether no table begins below zero, read as SS or US, and one has entries beyond the signed values."""
    ends = [table.first + len(table.entries) for table in tables if 0 <= table.first <= 0x7FFF]
    return len(ends) == len(tables) and max(ends) > 1 << (bits - 1)


def _bits_of(tables: list[_Table]) -> int:
    """How many bits entries have, by the largest of them."""
    used = max(int(table.entries.max()) for table in tables).bit_length()
    if used <= 8:
        return 8
    return used if used <= _MOST_OF_A_DARK_TABLE else 16


def _table(header: Header, colour: str) -> _Table:
    """Descriptor (entries, first mapped value, bits) and data of one colour. Raises MissingElement."""
    descriptor = [int(v) for v in header.numbers(f"{colour}PaletteColorLookupTableDescriptor")]
    order, keyword = ">" if header.is_big_endian else "<", f"{colour}PaletteColorLookupTableData"
    raw = header.value(keyword)
    if not isinstance(raw, bytes):  # as numbers (US or SS), which the Standard allowed once
        raw = np.array([int(v) & 0xFFFF for v in header.numbers(keyword)], f"{order}u2").tobytes()
    if len(descriptor) != 3 or not raw:
        raise MissingElement(f"{colour} Palette Color Lookup Table is absent or segmented: send it in grey")
    count = descriptor[0] & 0xFFFF or 65536  # 0 means 65,536
    if len(raw) >= 2 * count:  # entries of 16 bits
        entries: NDArray[Any] = np.frombuffer(raw[: len(raw) // 2 * 2], f"{order}u2")
    elif header.is_big_endian:
        entries, is_exchanged = bytes_of_words(raw)
        if is_exchanged:
            header.notes.append(f"{colour.lower()}_palette_byte_order=exchanged")
    else:
        entries = np.frombuffer(raw, np.uint8)
    if len(entries) < count:
        raise MissingElement(f"{colour} Palette Color Lookup Table is shorter than its descriptor says")
    return _Table(entries[:count], descriptor[1], descriptor[2])
