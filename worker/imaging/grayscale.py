"""The elements of the grayscale pipeline -> `Grayscale`.

Knows where the Standard puts them and which errors stations make. Knows no pixels.
"""

import numpy as np
from numpy.typing import NDArray

from worker.imaging.display import Grayscale, LookUpTable, VoiFunction, Window
from worker.imaging.header import Header


def read_grayscale(header: Header) -> Grayscale:
    """Everything the display pipeline needs. Malformed parts count as absent, with a note on the header."""
    modality_lut = _lut(header, "ModalityLUTSequence", is_signed_input=_is_signed(header))
    slope, intercept = _rescale(header)
    modality_is_signed = modality_lut is None and (_is_signed(header) or intercept < 0 or slope < 0)
    return Grayscale(
        is_monochrome1=(header.text("PhotometricInterpretation") or "").upper() == "MONOCHROME1",
        slope=slope,
        intercept=intercept,
        modality_lut=modality_lut,
        voi_lut=_lut(header, "VOILUTSequence", is_signed_input=modality_is_signed),
        window=_window(header),
        padding=_padding(header),
        presentation_lut_shape=header.text("PresentationLUTShape"),
    )


def _is_signed(header: Header) -> bool:
    return header.integer("PixelRepresentation") == 1


def _rescale(header: Header) -> tuple[float, float]:
    slope, intercept = header.number("RescaleSlope"), header.number("RescaleIntercept")
    if slope == 0.0:  # would make every image flat
        header.malformed("rescale_slope")
        slope = None
    return 1.0 if slope is None else slope, 0.0 if intercept is None else intercept


def _window(header: Header) -> Window | None:
    """The first window (PS3.3 C.11.2.1.2); a width below 1 counts as absent."""
    center, width = header.number("WindowCenter"), header.number("WindowWidth")
    if center is None or width is None or width < 1.0:
        return None
    name = (header.text("VOILUTFunction") or "LINEAR").upper()
    if name not in VoiFunction.__members__:
        header.malformed("voi_lut_function")
        name = "LINEAR"
    return Window(center, width, VoiFunction[name])


def _padding(header: Header) -> tuple[int, int] | None:
    """Pixel Padding Value up to Range Limit, in stored values, both included (PS3.3 C.7.5.1.1.2)."""
    value = header.integer("PixelPaddingValue")
    if value is None:
        return None
    limit = header.integer("PixelPaddingRangeLimit")
    limit = value if limit is None else limit
    if _is_signed(header):  # written as US by some stations
        value, limit = _as_signed(value), _as_signed(limit)
    return min(value, limit), max(value, limit)


def _lut(header: Header, sequence: str, is_signed_input: bool) -> LookUpTable | None:
    """The first item of a LUT sequence (PS3.3 C.11.1.1.1): descriptor (entries, first mapped value, bits) and data."""
    items = header.items(sequence)
    if not items:
        return None
    descriptor = [int(v) for v in items[0].numbers("LUTDescriptor")]
    data = _lut_data(items[0], descriptor)
    if data is None:
        header.malformed("modality_lut" if sequence.startswith("M") else "voi_lut")
        return None
    first, bits = descriptor[1], descriptor[2]
    # the first mapped value is US or SS as the input is; explicit VR files often say US either way
    first = _as_signed(first) if is_signed_input else first & 0xFFFF
    return LookUpTable(first, bits, data)


def _lut_data(item: Header, descriptor: list[int]) -> NDArray[np.uint16] | None:
    if len(descriptor) != 3 or not 8 <= descriptor[2] <= 16:
        return None
    entries = descriptor[0] & 0xFFFF or 65536  # 0 means 65,536
    raw = item.value("LUTData")
    if isinstance(raw, bytes):
        little = item.dataset.original_encoding[1] is not False
        kind = np.dtype("u1") if len(raw) < 2 * entries else np.dtype("<u2" if little else ">u2")
        values = np.frombuffer(raw[: len(raw) // kind.itemsize * kind.itemsize], kind).astype(np.uint16)
    else:
        values = np.array([int(v) & 0xFFFF for v in item.numbers("LUTData")], np.uint16)
    if len(values) < entries:
        return None
    return values[:entries] & np.uint16((1 << descriptor[2]) - 1)


def _as_signed(value: int) -> int:
    return value - 0x10000 if value > 0x7FFF else value
