"""From display values to a model's grid. The steps are data, so that training and serving do the same.

`Preprocessing` is stored in the model card; only `apply` performs it; `Placement` maps a heat map back. Of a model with
the rule `pyramid53`, `Preprocessing.pyramid` belongs to the reading of the file: `image_file.read_grid` does both.
"""

from dataclasses import dataclass
from enum import StrEnum
from itertools import count, pairwise
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.errors import BadSetting
from worker.imaging.bilinear import bilinear
from worker.imaging.pyramid import Pyramid, lifted, shift_px, size_of


class Fit(StrEnum):
    """How a rectangle becomes the square grid."""

    STRETCH = "stretch"
    PAD = "pad"  #: keep the aspect, fill with black (air)


class Resize(StrEnum):
    """Resize operators, by OpenCV's names, and one of our own."""

    NEAREST = "nearest"
    LINEAR = "linear"
    AREA = "area"
    CUBIC = "cubic"
    LANCZOS = "lanczos"
    #: The picture's stored values are halved by the 5/3 wavelet while both sides keep twice the grid's; then the
    #: display pipeline; then bilinear in integers. Every lossless transfer syntax gives the same bytes.
    PYRAMID53 = "pyramid53"


def resize_named(name: str) -> Resize:
    """The resize rule of this name; raises BadSetting with the names there are."""
    try:
        return Resize(name)
    except ValueError:
        raise BadSetting(f"no resize rule {name!r}: choose one of {', '.join(Resize)}") from None


CV2_INTERPOLATION: dict[Resize, int] = {
    Resize.NEAREST: cv2.INTER_NEAREST,
    Resize.LINEAR: cv2.INTER_LINEAR,
    Resize.AREA: cv2.INTER_AREA,
    Resize.CUBIC: cv2.INTER_CUBIC,
    Resize.LANCZOS: cv2.INTER_LANCZOS4,
}

#: On the card of a `pyramid53` model: display ranges without a VOI LUT, and blankness, are those of this picture.
RANGES_FROM = "reduced picture"


@dataclass(frozen=True)
class Preprocessing:
    """The steps from display values to the network's input tensor, in this order: CLAHE, fit, resize.

    With `pyramid53` the halvings come first of all, on stored values.
    """

    size: int = 224  #: side of the square grid, px
    fit: Fit = Fit.STRETCH
    resize: Resize = Resize.LINEAR
    clahe_clip: float | None = None  #: None: no CLAHE
    clahe_tiles: int = 8

    @property
    def pyramid(self) -> Pyramid | None:
        """The rule by which files are read for this model; None: at any resolution, as display values."""
        return Pyramid(self.size) if self.resize is Resize.PYRAMID53 else None

    def to_json(self) -> dict[str, Any]:
        """Plain values for the card."""
        plain = {
            "size": self.size,
            "fit": str(self.fit),
            "resize": str(self.resize),
            "clahe_clip": self.clahe_clip,
            "clahe_tiles": self.clahe_tiles,
        }
        return plain if self.pyramid is None else plain | {"ranges_from": RANGES_FROM}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Preprocessing":
        """Inverse of `to_json`; raises ValueError or KeyError on values this version does not know."""
        if values.get("ranges_from", RANGES_FROM) != RANGES_FROM:
            raise ValueError(f"display ranges from {values['ranges_from']!r}")
        read = cls(
            size=int(values["size"]),
            fit=Fit(values["fit"]),
            resize=Resize(values["resize"]),
            clahe_clip=None if values["clahe_clip"] is None else float(values["clahe_clip"]),
            clahe_tiles=int(values["clahe_tiles"]),
        )
        if read.size < 1:
            raise ValueError(f"a grid of {read.size} px")
        return read


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
    is_pyramid: bool = False  #: smaller copies of the original are halvings of the pyramid, else means of blocks

    def of(self, width: int, height: int) -> "Placement":
        """The same position on the full-size original of `width` x `height`, of which this image is a smaller copy."""
        if self.is_pyramid:
            return self._before_halvings(width, height)
        across, down = width / self.width, height / self.height
        return Placement(
            self.grid, width, height,
            self.scale_x * across, self.scale_y * down, self.offset_x * across, self.offset_y * down,
        )  # fmt: skip

    def _before_halvings(self, width: int, height: int) -> "Placement":
        level = next(n for n in count() if size_of(n, width) <= self.width)
        if (size_of(level, width), size_of(level, height)) != (self.width, self.height):
            raise ValueError(f"{self.width} x {self.height} is no halving of {width} x {height}")
        step, shift = 1 << level, shift_px(level)
        return Placement(
            self.grid, width, height,
            self.scale_x * step, self.scale_y * step, self.offset_x * step - shift, self.offset_y * step - shift,
            is_pyramid=True,
        )  # fmt: skip

    def to_original(self, heat: NDArray[np.float32], width: int, height: int) -> NDArray[np.float32]:
        """Resample a heat map [h, w] that covers the grid to `height` x `width` covering the whole original image.

        Bilinear; original pixels outside the grid (none, unless cropped) take the border's value.
        """
        heat_h, heat_w = heat.shape
        # pixel centres: output pixel -> original px -> grid px -> heat-map cell
        x = ((np.arange(width) + 0.5) * self.width / width - self.offset_x) / self.scale_x / self.grid * heat_w - 0.5
        y = ((np.arange(height) + 0.5) * self.height / height - self.offset_y) / self.scale_y / self.grid * heat_h - 0.5
        across = _interpolated(heat.astype(np.float32).T, x)
        return _interpolated(np.ascontiguousarray(across.T), y)  # numpy is twice as fast on rows without gaps


def apply(display: NDArray[np.uint8], preprocessing: Preprocessing) -> tuple[NDArray[np.uint8], Placement]:
    """Bring display values [H, W] uint8 (air dark) to the grid: ([size, size, 1] uint8, Placement).

    With `pyramid53`, display values that were read by `preprocessing.pyramid` are halved already. Others are halved
    here, which is the same only where display values are the stored ones, as of 8-bit PNG and JPEG.
    """
    height, width = display.shape
    size = preprocessing.size
    image: Any = display
    if preprocessing.pyramid is not None:
        image = lifted(display, 8, False, preprocessing.pyramid.level(height, width))
    inner_w, inner_h, left, top = _inside(preprocessing, image.shape[1], image.shape[0])
    if preprocessing.clahe_clip is not None:
        tiles = (preprocessing.clahe_tiles, preprocessing.clahe_tiles)
        image = cv2.createCLAHE(preprocessing.clahe_clip, tiles).apply(image)
    if image.shape != (inner_h, inner_w):
        image = _resized(image, inner_w, inner_h, preprocessing.resize)
    if (inner_w, inner_h) != (size, size):
        grid = np.zeros((size, size), np.uint8)
        grid[top : top + inner_h, left : left + inner_w] = image
        image = grid
    return np.asarray(image, np.uint8)[:, :, None], place(preprocessing, width, height)


def _resized(image: NDArray[np.uint8], width: int, height: int, resize: Resize) -> Any:
    if resize is Resize.PYRAMID53:
        return bilinear(image, width, height)
    return cv2.resize(image, (width, height), interpolation=CV2_INTERPOLATION[resize])


def place(preprocessing: Preprocessing, width: int, height: int) -> Placement:
    """Where the grid lies on an image of this size."""
    pyramid, level = preprocessing.pyramid, 0
    if pyramid is not None:
        level = pyramid.level(height, width)
    across, down = size_of(level, width), size_of(level, height)
    inner_w, inner_h, left, top = _inside(preprocessing, across, down)
    scale_x, scale_y = across / inner_w, down / inner_h
    offset_x, offset_y = -left * scale_x, -top * scale_y
    placed = Placement(
        preprocessing.size, across, down, scale_x, scale_y, offset_x, offset_y, is_pyramid=pyramid is not None
    )
    return placed.of(width, height)


def _inside(preprocessing: Preprocessing, width: int, height: int) -> tuple[int, int, int, int]:
    """Width and height of the image on the grid, and where it begins: left, top."""
    size = preprocessing.size
    if preprocessing.fit is Fit.STRETCH:
        return size, size, 0, 0
    scale = max(height, width) / size
    inner_w, inner_h = max(1, round(width / scale)), max(1, round(height / scale))
    return inner_w, inner_h, (size - inner_w) // 2, (size - inner_h) // 2


def _interpolated(rows: NDArray[np.float32], positions: NDArray[np.float64]) -> NDArray[np.float32]:
    """Rows [N, w] interpolated at N ascending positions between the rows [h, w]; the first and last row are repeated
    outside."""
    inside = np.clip(positions, 0.0, len(rows) - 1.0)
    upper = np.floor(inside).astype(np.intp)
    share = (inside - upper).astype(np.float32)[:, None]
    steps = np.diff(rows, axis=0, append=rows[-1:])
    out = np.empty((len(positions), rows.shape[1]), np.float32)
    for row, (first, end) in enumerate(pairwise(np.searchsorted(upper, np.arange(len(rows) + 1)))):
        between = out[first:end]  # rows that lie between the same two
        np.multiply(share[first:end], steps[row], out=between)
        between += rows[row]
    return out
