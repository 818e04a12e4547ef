"""Three numbers that describe a model's input, computed alike in training and in serving. Knows no model."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: Display values below this are air or collimation.
DARK = 16

#: Width of the frame around the image that counts as its border, as a share of the grid's side.
BORDER = 1 / 20


@dataclass(frozen=True)
class InputStatistics:
    """Of one image on the model's grid, so that the detector's resolution and the file's size have no influence."""

    display_mean: float  #: mean display value, [0, 1]
    display_deviation: float  #: standard deviation of the display values: contrast
    dark_border: float  #: share of dark pixels in the frame, [0, 1]


def describe(grid: NDArray[np.uint8]) -> InputStatistics:
    """The statistics of a grid [size, size] or [size, size, 1] as `preprocess.apply` makes it."""
    values = grid.reshape(grid.shape[:2])
    width = max(1, round(BORDER * len(values)))
    inside = np.zeros(values.shape, bool)
    inside[width:-width, width:-width] = True
    frame = values[~inside]
    return InputStatistics(float(values.mean()) / 255, float(values.std()) / 255, float((frame < DARK).mean()))
