"""The grayscale display pipeline of DICOM (PS3.4 N.2, PS3.3 C.7.6.3, C.11): stored values -> 8-bit display values.

Pure: one function per step of the pipeline. Each step works on a table of at most 65,536 stored values, never on the
image; one combined look-up table is applied to the image once. Knows no files and no elements.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.imaging.display.voi_fit import is_dim, misses

Values = NDArray[np.float64]
Codes = NDArray[np.uint8] | NDArray[np.uint16]

#: Notes on an image whose window, or whose VOI LUT, was not used.
WINDOW_MISSES, VOI_LUT_MISSES = "window=misses_picture", "voi_lut=misses_picture"

#: Note on an image whose window shows its values in a few of the greys, as one that is several times too wide does.
WINDOW_WIDE = "window=few_greys"

#: With a larger share of padding than this the Range Limit is not believed: it spans the picture too.
_MOST_PADDED = 0.95

#: Pixels a side that are looked at to find out how much of a picture is padding.
_SAMPLE_PX = 64


class VoiFunction(StrEnum):
    """VOI LUT Function (PS3.3 C.11.2.1.3)."""

    LINEAR = "LINEAR"
    LINEAR_EXACT = "LINEAR_EXACT"
    SIGMOID = "SIGMOID"


@dataclass(frozen=True)
class LookUpTable:
    """A modality or VOI LUT: input value `first` maps to `data[0]`; output lies in [0, 2**bits - 1]."""

    first: int
    bits: int
    data: NDArray[np.uint16]


@dataclass(frozen=True)
class Window:
    """First usable Window Center and Window Width, in modality values; width > 0, of LINEAR >= 1."""

    center: float
    width: float
    function: VoiFunction = VoiFunction.LINEAR


@dataclass(frozen=True)
class Grayscale:
    """The elements of a header that define how stored values become display values."""

    is_monochrome1: bool = False
    slope: float = 1.0
    intercept: float = 0.0
    modality_lut: LookUpTable | None = None
    voi_lut: LookUpTable | None = None
    window: Window | None = None
    padding: tuple[int, int] | None = None  #: stored values, both included
    padding_value: int | None = None  #: the one of `padding` that was declared first
    presentation_lut_shape: str | None = None

    @property
    def declares_voi(self) -> bool:
        """Whether the header declares the display range; if not, it is taken from the values of the image."""
        return self.voi_lut is not None or self.window is not None


@dataclass(frozen=True)
class StoredValues:
    """Pixels as stored: codes [H, W]; the lower `bits` are used (two's complement if signed), upper bits are zero."""

    codes: Codes
    bits: int  #: 1-16
    is_signed: bool = False

    @property
    def values(self) -> NDArray[Any]:
        """The codes with their sign."""
        if not self.is_signed:
            return self.codes
        spare = 8 * self.codes.dtype.itemsize - self.bits
        signed = (self.codes << spare).view(self.codes.dtype.str.replace("u", "i"))
        return np.asarray(signed >> spare)


@dataclass(frozen=True)
class Display:
    """Display values, uint8 [H, W], air dark; `notes` lists the assumptions that were made."""

    pixels: NDArray[np.uint8]
    notes: tuple[str, ...] = ()


def display_values(stored: StoredValues, grayscale: Grayscale) -> Display:
    """The whole pipeline: modality LUT -> VOI LUT -> inversion -> 8 bits, padding dark."""
    table, notes = display_table(stored, grayscale)
    return Display(look_up(stored.codes, table), notes)


def display_table(stored: StoredValues, grayscale: Grayscale) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """The one look-up table of the pipeline, from each of the 2**bits codes to its display value, and its notes."""
    values = stored_range(stored.bits, stored.is_signed)
    padding, notes = padding_codes(stored, values, grayscale)
    notes = (*notes, *presentation_notes(grayscale))
    modality = modality_values(values, grayscale)
    sample = sample_of(stored.codes).ravel()
    shown, missed = _voi_that_shows(modality, grayscale, sample if padding is None else sample[~padding[sample]])
    notes = (*missed, *notes)
    if shown is None:
        shown = spread(modality, used_codes(stored, padding))
        notes = ("voi=none", *notes)
    table = to_8_bits(invert(shown) if grayscale.is_monochrome1 else shown)
    if padding is not None:
        table[padding] = 0
    return table, notes


def stored_range(bits: int, is_signed: bool) -> Values:
    """The stored value that each code means: index = code, 2**bits entries (PS3.5 8.1.1, two's complement)."""
    values = np.arange(1 << bits, dtype=np.float64)
    if is_signed:
        values[1 << (bits - 1) :] -= 1 << bits
    return values


def modality_values(values: Values, grayscale: Grayscale) -> Values:
    """Modality LUT Sequence, else Rescale Slope and Intercept (PS3.3 C.11.1.1.1, C.11.1.1.2)."""
    if grayscale.modality_lut is not None:
        return _through(values, grayscale.modality_lut)
    return values * grayscale.slope + grayscale.intercept


def voi_values(modality: Values, grayscale: Grayscale) -> Values | None:
    """VOI LUT Sequence, else the window (PS3.3 C.11.2) -> [0, 1]; None when neither is declared."""
    if grayscale.voi_lut is not None:
        return voi_lut_values(modality, grayscale.voi_lut)
    return None if grayscale.window is None else window_values(modality, grayscale.window)


def _voi_that_shows(modality: Values, grayscale: Grayscale, codes: Codes) -> tuple[Values | None, tuple[str, ...]]:
    """The VOI LUT, else the window, whichever first leaves something of the picture to see; and notes on what did not.

    `codes` are some of the picture.
    """
    notes: tuple[str, ...] = ()
    for declared, is_window, missed in (
        (replace(grayscale, window=None), False, VOI_LUT_MISSES),
        (replace(grayscale, voi_lut=None), True, WINDOW_MISSES),
    ):
        shown = voi_values(modality, declared)
        if shown is None:
            continue
        if misses(modality, shown, codes, is_window=is_window):
            notes = (*notes, missed)
            continue
        if is_window and is_dim(modality, shown, codes):
            notes = (*notes, WINDOW_WIDE)
        return shown, notes
    return None, notes


def voi_lut_values(modality: Values, lut: LookUpTable) -> Values:
    """VOI LUT Sequence (PS3.3 C.11.2.1.1), scaled from its declared output range to [0, 1]."""
    return np.minimum(_through(modality, lut) / ((1 << lut.bits) - 1), 1.0)


def window_values(modality: Values, window: Window) -> Values:
    """Window Center and Width -> [0, 1].

    PS3.3 C.11.2.1.2.1 LINEAR, C.11.2.1.3.1 SIGMOID, C.11.2.1.3.2 LINEAR_EXACT.
    """
    center, width = window.center, window.width
    if window.function is VoiFunction.SIGMOID:
        return np.asarray(1.0 / (1.0 + np.exp(np.clip(-4.0 * (modality - center) / width, -700.0, 700.0))))
    if window.function is VoiFunction.LINEAR_EXACT:
        return np.asarray(np.clip((modality - center) / width + 0.5, 0.0, 1.0))
    if width == 1.0:  # a step: the formula would divide by zero
        return np.where(modality <= center - 0.5, 0.0, 1.0)
    return np.asarray(np.clip((modality - (center - 0.5)) / (width - 1.0) + 0.5, 0.0, 1.0))


def spread(modality: Values, used: NDArray[np.bool_]) -> Values:
    """No VOI: linear between the smallest and the largest modality value in use -> [0, 1]; a flat image is dark."""
    if not used.any():
        return np.zeros_like(modality)
    low, high = modality[used].min(), modality[used].max()
    with np.errstate(over="ignore"):  # a flat image
        return np.asarray(np.clip((modality - low) / max(high - low, np.finfo(np.float64).tiny), 0.0, 1.0))


def padding_codes(
    stored: StoredValues, values: Values, grayscale: Grayscale
) -> tuple[NDArray[np.bool_] | None, tuple[str, ...]]:
    """Which codes mean Pixel Padding (PS3.3 C.7.5.1.1.2), None: no code does; and what was assumed.

    A Range Limit that leaves hardly anything of the picture is ignored; an image of nothing but padding counts as if it
    had none declared.
    """
    if grayscale.padding is None:
        return None, ()
    low, high = grayscale.padding
    value = low if grayscale.padding_value is None else grayscale.padding_value
    sample = sample_of(stored.codes)
    padding = np.asarray((values >= low) & (values <= high))
    notes: tuple[str, ...] = ()
    if low < high and padding[sample].mean() > _MOST_PADDED:
        padding, notes = np.asarray(values == value), ("pixel_padding_range_limit=ignored",)
    if padding[sample].all() and bool(padding[stored.codes].all()):
        return None, (*notes, "pixel_padding=ignored")
    return (padding if padding.any() else None), notes


def sample_of(codes: Codes) -> Codes:
    """About 64 x 64 of the codes, a grid over the image."""
    rows, columns = (max(1, side // _SAMPLE_PX) for side in codes.shape)
    return codes[::rows, ::columns]


def shows_padding_dark(grayscale: Grayscale, bits: int, is_signed: bool) -> bool:
    """Whether padding comes out dark by itself, so that values between it and the picture need not be told apart."""
    if grayscale.padding is None:
        return True
    values = stored_range(bits, is_signed)
    shown = voi_values(modality_values(values, grayscale), grayscale)
    if shown is None:
        return False
    padding = (values >= grayscale.padding[0]) & (values <= grayscale.padding[1])
    return not to_8_bits(invert(shown) if grayscale.is_monochrome1 else shown)[padding].any()


def used_codes(stored: StoredValues, padding: NDArray[np.bool_] | None) -> NDArray[np.bool_]:
    """Which codes occur in the image, padding left out."""
    count = 1 << stored.bits
    histogram = cv2.calcHist([stored.codes], [0], None, [count], [0, count])
    used: NDArray[np.bool_] = np.asarray(histogram).ravel() > 0
    return used if padding is None else used & ~padding


def invert(shown: Values) -> Values:
    """MONOCHROME1: the smallest value is shown white (PS3.3 C.7.6.3.1.2). Within the declared output range, [0, 1]."""
    return 1.0 - shown


def presentation_notes(grayscale: Grayscale) -> tuple[str, ...]:
    """Presentation LUT Shape restates the photometric interpretation in DX objects and never inverts again
    (PS3.3 C.8.11.3.1.2). Returns a note when the two disagree."""
    expected = "INVERSE" if grayscale.is_monochrome1 else "IDENTITY"
    shape = grayscale.presentation_lut_shape
    return () if shape in (None, expected) else (f"presentation_lut_shape={shape}",)


def to_8_bits(shown: Values) -> NDArray[np.uint8]:
    """[0, 1] -> 0-255, rounded to nearest."""
    return np.asarray(np.rint(shown * 255.0), np.uint8)


def look_up(codes: Codes, table: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Apply the one table; cv2.LUT is five times faster than numpy's take on 16-bit codes."""
    full = np.zeros(1 << (8 * codes.dtype.itemsize), np.uint8)
    full[: len(table)] = table
    return np.asarray(cv2.LUT(codes, full.reshape(1, -1)), np.uint8).reshape(codes.shape)


def full_range(stored: StoredValues) -> NDArray[np.uint8]:
    """Grey made from colour: [0, 2**bits - 1] -> [0, 255], because colour has no VOI LUT (PS3.3 C.7.6.3.1.2)."""
    return look_up(stored.codes, full_range_table(stored))


def full_range_table(stored: StoredValues) -> NDArray[np.uint8]:
    """The table of `full_range`."""
    return to_8_bits(stored_range(stored.bits, False) / max((1 << stored.bits) - 1, 1))


def _through(values: Values, lut: LookUpTable) -> Values:
    """Values through a LUT: those below the first mapped value get the first entry, those above the last get the last
    (PS3.3 C.11.1.1.1)."""
    index = np.clip(np.rint(values) - lut.first, 0, len(lut.data) - 1).astype(np.intp)
    return np.asarray(lut.data[index], np.float64)


def is_blank(display: NDArray[np.uint8]) -> bool:
    """Whether all pixels have one value. A sparse sample is tested first, because it nearly always differs already."""
    return all(bool((pixels == display[0, 0]).all()) for pixels in (display[::61, ::61], display))
