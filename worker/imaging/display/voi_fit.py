"""Whether a window or a VOI LUT was made for a picture, or for one of other values. Pure; knows tables and no files."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Codes = NDArray[Any]

#: A window that shows this share of the pixels as mere white or mere black, and among them this share of the range of
#: all values, was made for other values: 128/256 over 12 bits shows a radiograph as a white sheet. Air may be most of a
#: picture, but has a small range.
_MOST_CLIPPED, _MOST_RANGE = 0.6, 0.3

#: A window that shows at least this share of the range of all values as greys is believed.
_LEAST_RANGE = 0.15

#: A picture that is given fewer of the 256 greys than this share, and whose values take at least this share of those
#: that its bits can hold, has the window of another picture: 32768/65536 over 12 bits shows sixteen dark greys.
_LEAST_GREYS, _LEAST_USED = 1 / 8, 1 / 32

#: A window under which all values that the bits can hold make less than half of the greys was made for more bits.
_LEAST_SPAN = 0.5

#: The values of a radiograph made for its window take more of the greys than this share.
_FEW_GREYS = 0.35

#: On fewer pixels nothing is said.
_LEAST_SAMPLE = 1000


def misses(modality: Values, shown: Values, codes: Codes, *, is_window: bool) -> bool:
    """Whether a window, or else a VOI LUT, leaves nothing of a picture to see. A table may be dim by intent.

    `modality` and `shown` are the modality and the display value [0, 1] of each code, `codes` some of the picture.
    """
    if codes.size < _LEAST_SAMPLE:
        return False
    if is_window:
        greys = _greys_of_many_values(modality, shown, codes)
        if np.ptp(shown) < _LEAST_SPAN or (greys is not None and 0.0 < greys < _LEAST_GREYS):
            return True
    darkest, brightest = (0.0, 1.0) if is_window else (float(shown.min()), float(shown.max()))
    if darkest == brightest:
        return True  # a table of one value, or one that begins beyond all values
    values, levels = modality[codes], shown[codes]
    as_greys = modality[(shown > darkest) & (shown < brightest)]
    return any(_hides(values, clipped, as_greys) for clipped in (levels >= brightest, levels <= darkest))


def is_dim(modality: Values, shown: Values, codes: Codes) -> bool:
    """Whether a window that is believed shows a picture of many values in few greys."""
    if codes.size < _LEAST_SAMPLE:
        return False
    greys = _greys_of_many_values(modality, shown, codes)
    return greys is not None and greys < _FEW_GREYS


def _hides(values: Values, clipped: NDArray[np.bool_], as_greys: Values) -> bool:
    """Whether the `clipped` pixels, mere white or mere black, are most of the picture and much of its range, and hardly
    any of its range is among the values that are shown `as_greys`."""
    if clipped.mean() < _MOST_CLIPPED:
        return False
    low, high = np.percentile(values, (1, 99))
    first, last = np.percentile(values[clipped], (10, 90))
    in_range = np.clip(as_greys, low, high)
    is_narrow = not in_range.size or np.ptp(in_range) < _LEAST_RANGE * (high - low)
    return bool(is_narrow and high > low and last - first >= _MOST_RANGE * (high - low))


def _greys_of_many_values(modality: Values, shown: Values, codes: Codes) -> float | None:
    """How much of [0, 1] the greys of a picture span; None where its values take little of what its bits can hold."""
    low, high = np.percentile(shown[codes], (1, 99))
    used = np.ptp(np.percentile(modality[codes], (1, 99)))
    return float(high - low) if used >= _LEAST_USED * np.ptp(modality) else None
