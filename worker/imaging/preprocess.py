"""From display values to a model's grid. The steps are data, so that training and serving do the same.

`Preprocessing` is stored in the model card; only `apply` performs it; `Placement` maps a heat map back.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray


class Fit(StrEnum):
    """How a rectangle becomes the square grid."""

    STRETCH = "stretch"
    PAD = "pad"  #: keep the aspect, fill with black (air)


class Resize(StrEnum):
    """Resize operators, by OpenCV's names."""

    NEAREST = "nearest"
    LINEAR = "linear"
    AREA = "area"
    CUBIC = "cubic"
    LANCZOS = "lanczos"


CV2_INTERPOLATION: dict[Resize, int] = {
    Resize.NEAREST: cv2.INTER_NEAREST,
    Resize.LINEAR: cv2.INTER_LINEAR,
    Resize.AREA: cv2.INTER_AREA,
    Resize.CUBIC: cv2.INTER_CUBIC,
    Resize.LANCZOS: cv2.INTER_LANCZOS4,
}


@dataclass(frozen=True)
class Preprocessing:
    """The steps from display values to the network's input tensor, in this order: CLAHE, fit, resize."""

    size: int = 224  #: side of the square grid, px
    fit: Fit = Fit.STRETCH
    resize: Resize = Resize.LINEAR
    clahe_clip: float | None = None  #: None: no CLAHE
    clahe_tiles: int = 8

    def to_json(self) -> dict[str, Any]:
        """Plain values for the card."""
        return {
            "size": self.size,
            "fit": str(self.fit),
            "resize": str(self.resize),
            "clahe_clip": self.clahe_clip,
            "clahe_tiles": self.clahe_tiles,
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Preprocessing":
        """Inverse of `to_json`; raises ValueError or KeyError on values this version does not know."""
        return cls(
            size=int(values["size"]),
            fit=Fit(values["fit"]),
            resize=Resize(values["resize"]),
            clahe_clip=None if values["clahe_clip"] is None else float(values["clahe_clip"]),
            clahe_tiles=int(values["clahe_tiles"]),
        )


@dataclass(frozen=True)
class Placement:
    """Position of the model's grid on the original image.

    A grid point (x, y), in grid pixels from the top left, is the original's
    (x * scale_x + offset_x, y * scale_y + offset_y).
    """

    grid: int  #: side of the model's grid, px
    width: int  #: of the original image, px
    height: int
    scale_x: float
    scale_y: float
    offset_x: float = 0.0
    offset_y: float = 0.0

    def of(self, width: int, height: int) -> "Placement":
        """The same position on the full-size original of `width` x `height`, of which this image is a smaller copy."""
        across, down = width / self.width, height / self.height
        return Placement(
            self.grid, width, height,
            self.scale_x * across, self.scale_y * down, self.offset_x * across, self.offset_y * down,
        )  # fmt: skip

    def to_original(self, heat: NDArray[np.float32], width: int, height: int) -> NDArray[np.float32]:
        """Resample a heat map [h, w] that covers the grid to `height` x `width` covering the whole original image.

        Bilinear; original pixels outside the grid (none, unless cropped) take the border's value.
        """
        heat_h, heat_w = heat.shape
        # pixel centres: output pixel -> original px -> grid px -> heat-map cell
        x = ((np.arange(width) + 0.5) * self.width / width - self.offset_x) / self.scale_x / self.grid * heat_w - 0.5
        y = ((np.arange(height) + 0.5) * self.height / height - self.offset_y) / self.scale_y / self.grid * heat_h - 0.5
        across = _interpolated(heat.astype(np.float32).T, x).T
        return _interpolated(across, y)


def apply(display: NDArray[np.uint8], preprocessing: Preprocessing) -> tuple[NDArray[np.uint8], Placement]:
    """Bring display values [H, W] uint8 (air dark) to the grid: ([size, size, 1] uint8, Placement)."""
    height, width = display.shape
    size = preprocessing.size
    image: Any = display
    if preprocessing.clahe_clip is not None:
        tiles = (preprocessing.clahe_tiles, preprocessing.clahe_tiles)
        image = cv2.createCLAHE(preprocessing.clahe_clip, tiles).apply(image)
    interpolation = CV2_INTERPOLATION[preprocessing.resize]
    if preprocessing.fit is Fit.STRETCH:
        if (height, width) != (size, size):
            image = cv2.resize(image, (size, size), interpolation=interpolation)
        return np.asarray(image, np.uint8)[:, :, None], Placement(size, width, height, width / size, height / size)
    scale = max(height, width) / size
    inner_w, inner_h = max(1, round(width / scale)), max(1, round(height / scale))
    left, top = (size - inner_w) // 2, (size - inner_h) // 2
    grid = np.zeros((size, size, 1), np.uint8)
    grid[top : top + inner_h, left : left + inner_w, 0] = cv2.resize(
        image, (inner_w, inner_h), interpolation=interpolation
    )
    scale_x, scale_y = width / inner_w, height / inner_h
    return grid, Placement(size, width, height, scale_x, scale_y, -left * scale_x, -top * scale_y)


def _interpolated(rows: NDArray[np.float32], positions: NDArray[np.float64]) -> NDArray[np.float32]:
    """Rows [N, w] interpolated at N positions between the rows [h, w]; the first and last row are repeated outside."""
    inside = np.clip(positions, 0.0, len(rows) - 1.0)
    upper = np.floor(inside).astype(np.intp)
    lower = np.minimum(upper + 1, len(rows) - 1)
    share = (inside - upper).astype(np.float32)[:, None]
    return rows[upper] + share * (rows[lower] - rows[upper])
