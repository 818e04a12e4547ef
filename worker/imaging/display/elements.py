"""The elements of the grayscale pipeline -> `Grayscale`.

Knows where the Standard puts them and which errors stations make. Knows no pixels.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from worker.imaging.display.pipeline import Grayscale, LookUpTable, VoiFunction, Window
from worker.imaging.header import Header

#: The smallest and the largest value that may occur.
Range = tuple[float, float]

#: How notes name the LUT sequences.
_NAMES = {"ModalityLUTSequence": "modality_lut", "VOILUTSequence": "voi_lut"}

#: The steps of a table whose bytes were exchanged are together at least so many times as large.
_EXCHANGED = 8


def read_grayscale(header: Header) -> Grayscale:
    """Everything the display pipeline needs; malformed parts count as absent and leave a note on the header."""
    stored, voi = _stored_range(header), voi_header(header)
    modality_lut = _lut(header, "ModalityLUTSequence", stored)
    slope, intercept = _rescale(header)
    modality = _modality_range(stored, modality_lut, slope, intercept)
    voi_lut = _lut(voi, "VOILUTSequence", modality)
    padding_value, padding = _padding(header)
    return Grayscale(
        is_monochrome1=(header.text("PhotometricInterpretation") or "").upper() == "MONOCHROME1",
        slope=slope,
        intercept=intercept,
        modality_lut=modality_lut,
        voi_lut=None if voi_lut is None else _as_scaled(voi_lut, modality, header),
        window=_window(voi),
        padding=padding,
        padding_value=padding_value,
        presentation_lut_shape=header.text("PresentationLUTShape"),
    )


def read_voi_luts(header: Header) -> tuple[tuple[str, LookUpTable], ...]:
    """Every usable item of the VOI LUT Sequence, with its LUT Explanation."""
    stored = _stored_range(header)
    mapped = _modality_range(stored, _lut(header, "ModalityLUTSequence", stored), *_rescale(header))
    found = []
    for number, item in enumerate(voi_header(header).items("VOILUTSequence"), start=1):
        table = _look_up_table(item, "voi_lut", mapped)
        if table is not None:
            scaled = _as_scaled(table, mapped, header)
            found.append((item.text("LUTExplanation") or f"VOI LUT {number}", scaled))
    return tuple(found)


def voi_header(header: Header) -> Header:
    """The data set that holds windows and VOI LUTs."""
    return _of_frame(header, "FrameVOILUTSequence")


def _of_frame(header: Header, macro: str) -> Header:
    """The data set of a macro: of an enhanced object in the functional groups of its frame, or those that its frames
    share (PS3.3 C.7.6.16); else the header itself.
    """
    for groups in ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"):
        for group in header.items(groups)[:1]:
            for item in group.items(macro)[:1]:
                return item
    return header


def _is_signed(header: Header) -> bool:
    return header.integer("PixelRepresentation") == 1


def _stored_range(header: Header) -> Range:
    bits = header.integer("BitsStored") or header.integer("BitsAllocated") or 16
    values = 1 << max(1, min(bits, 16))
    return (-values / 2, values / 2 - 1) if _is_signed(header) else (0, values - 1)


def _modality_range(stored: Range, lut: LookUpTable | None, slope: float, intercept: float) -> Range:
    if lut is not None:
        return float(lut.data.min()), float(lut.data.max())
    ends = (stored[0] * slope + intercept, stored[1] * slope + intercept)
    return min(ends), max(ends)


def _rescale(header: Header) -> tuple[float, float]:
    rescale = _of_frame(header, "PixelValueTransformationSequence")
    slope, intercept = (_first(rescale.decimals(keyword)) for keyword in ("RescaleSlope", "RescaleIntercept"))
    if slope == 0.0:  # would make every image flat
        header.malformed("rescale_slope")
        slope = None
    return 1.0 if slope is None else slope, 0.0 if intercept is None else intercept


def _first(numbers: list[float | None]) -> float | None:
    return next((number for number in numbers if number is not None), None)


def _window(header: Header) -> Window | None:
    """The first usable window."""
    window = next((found for _, found in usable_windows(header)), None)
    if window is not None and _voi_function(header) != window.function:
        header.malformed("voi_lut_function")
    return window


def usable_windows(header: Header) -> Iterator[tuple[int, Window]]:
    """Each usable window with its place (PS3.3 C.11.2.1.2): of any width above 0, of 1 and more for LINEAR."""
    function = VoiFunction.__members__.get(_voi_function(header), VoiFunction.LINEAR)
    least = 1.0 if function is VoiFunction.LINEAR else 0.0
    pairs = zip(header.decimals("WindowCenter"), header.decimals("WindowWidth"), strict=False)
    for place, (center, width) in enumerate(pairs):
        if center is not None and width is not None and width > 0.0 and width >= least:
            yield place, Window(center, width, function)


def _voi_function(header: Header) -> str:
    return (header.text("VOILUTFunction") or "LINEAR").upper()


def _padding(header: Header) -> tuple[int | None, tuple[int, int] | None]:
    """Pixel Padding Value, and the stored values from it to the Range Limit, both included (PS3.3 C.7.5.1.1.2)."""
    value = header.integer("PixelPaddingValue")
    if value is None:
        return None, None
    limit = header.integer("PixelPaddingRangeLimit")
    limit = value if limit is None else limit
    # written as US for signed pixels by some stations, as SS for unsigned ones by others
    fit = _as_signed if _is_signed(header) else _as_unsigned
    value, limit = fit(value), fit(limit)
    return value, (min(value, limit), max(value, limit))


def _lut(header: Header, sequence: str, mapped: Range) -> LookUpTable | None:
    """The first usable item of a LUT sequence (PS3.3 C.11.1.1.1, C.11.2.1.1); `mapped` are the values that go in."""
    for item in header.items(sequence):
        lut = _look_up_table(item, _NAMES[sequence], mapped)
        if lut is not None:
            return lut
        header.malformed(_NAMES[sequence])
    return None


def _look_up_table(item: Header, name: str, mapped: Range) -> LookUpTable | None:
    """Descriptor (entries, first mapped value, bits) and data of an item; None when they are of no use."""
    descriptor = [int(v) for v in item.numbers("LUTDescriptor")]
    if len(descriptor) != 3:
        return None
    entries, bits = descriptor[0] & 0xFFFF or 65536, descriptor[2]  # 0 means 65,536 (C.11.1.1)
    are_bits_allowed = 8 <= bits <= 16
    data, is_bytes = _lut_data(item, entries)
    # the first mapped value is US or SS as the input is; explicit VR files often say US either way
    first = _as_signed(descriptor[1]) if mapped[0] < 0 else descriptor[1] & 0xFFFF
    is_sound = len(data) == entries and are_bits_allowed
    if not len(data) or not (is_sound or _spans(first, len(data), mapped)):
        return None
    if len(data) < entries:
        item.notes.append(f"{name}_entries={len(data)} (said: {entries})")
    assumed = bits
    if _bits_of(data) > bits or not are_bits_allowed:
        assumed = max(8, _bits_of(data))
    elif is_bytes:
        assumed = 8
    if assumed != bits:
        item.notes.append(f"{name}_bits={assumed} (said: {bits})")
    return LookUpTable(first, assumed, data)


def _bits_of(data: NDArray[np.uint16]) -> int:
    """How many bits the largest entry needs; a table that was rounded up to 1024 or 4096 is one of 10 or 12 bits."""
    largest = int(data.max())
    return (largest - 1 if largest in (256, 1024, 4096, 16384) else largest).bit_length()


def _spans(first: int, entries: int, mapped: Range) -> bool:
    """Whether the table has an entry for every value that may go in; some writers count one too few."""
    return first <= mapped[0] + 1 and mapped[1] <= first + entries


def _as_scaled(lut: LookUpTable, mapped: Range, header: Header) -> LookUpTable:
    """A VOI LUT that has an entry for every value, and none as large as its bits allow, is scaled by those it uses:
    plate readers say 16 bits over entries of 12. A table of a part of the values may be dim by intent.
    """
    used = _bits_of(lut.data)
    if not 0 < used < lut.bits or not _spans(lut.first, len(lut.data), mapped):
        return lut
    header.notes.append(f"voi_lut_bits={used} (said: {lut.bits})")
    return LookUpTable(lut.first, used, lut.data)


def _lut_data(item: Header, entries: int) -> tuple[NDArray[np.uint16], bool]:
    """As many entries as there are, and whether each is a byte."""
    raw = item.value("LUTData")
    if not isinstance(raw, bytes):
        return np.array([int(v) & 0xFFFF for v in item.numbers("LUTData")][:entries], np.uint16), False
    # entries of 8 bits, two in a word (C.11.1.1.1); less than half of the words is a short table of 16 bits
    is_bytes = entries <= len(raw) < 2 * entries
    kind = np.dtype("u1") if is_bytes else np.dtype(">u2" if item.is_big_endian else "<u2")
    values = np.frombuffer(raw[: len(raw) // kind.itemsize * kind.itemsize], kind).astype(np.uint16)[:entries]
    if not is_bytes and _roughness(values) > _EXCHANGED * _roughness(values.byteswap()):
        values = values.byteswap()  # a converter that took the table for text left its bytes as they were
        item.notes.append("lut_byte_order=exchanged")
    return values, is_bytes


def _roughness(values: NDArray[np.uint16]) -> int:
    return int(np.abs(np.diff(values.astype(np.int64))).sum())


def _as_signed(value: int) -> int:
    return value - 0x10000 if value > 0x7FFF else value


def _as_unsigned(value: int) -> int:
    return value + 0x10000 if value < 0 else value
