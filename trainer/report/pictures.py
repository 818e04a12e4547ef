"""One image in three views, side by side: the radiograph, the served heat map and the saliency, as JPEG bytes."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from trainer.report.cases import Case
from worker.imaging.image_file import read_display, read_grid
from worker.imaging.preprocess import Placement, place
from worker.inference.model import Model
from worker.inference.overlay import blend

LONG_SIDE_PX = 360
JPEG_QUALITY = 85

#: Percentile of the saliency over all images of a report; larger values are shown as 1. All images have one scale.
SALIENCY_PERCENTILE = 99.5

#: From a grid [size, size] of the model's preprocessing to its saliency [size, size].
SaliencyMap = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


class Views(NamedTuple):
    """JPEG bytes; `saliency` is empty where it was left out."""

    radiograph: bytes
    heat: bytes
    saliency: bytes


class _Layers(NamedTuple):
    grey: NDArray[np.uint8]
    placement: Placement
    heat: NDArray[np.float32]
    saliency: NDArray[np.float32] | None


def draw(cases: Sequence[Case], root: Path, model: Model, saliency_map: SaliencyMap | None) -> list[Views]:
    """The views of the images in their original aspect ratio; the heat map comes from the model file."""
    layers = [_layers_of(root / case.sample.path, model, saliency_map) for case in cases]
    maps = [each.saliency for each in layers if each.saliency is not None]
    scale = max(float(np.percentile(np.concatenate(maps), SALIENCY_PERCENTILE)), 1e-12) if maps else 1.0
    return [_views(each, scale) for each in layers]


def _layers_of(path: Path, model: Model, saliency_map: SaliencyMap | None) -> _Layers:
    content, preprocessing = path.read_bytes(), model.card.preprocessing
    pixels, grid = read_display(content).pixels, read_grid(content, preprocessing)
    placement = place(preprocessing, pixels.shape[1], pixels.shape[0])
    heat = model.predict(grid[None])[0].heatmap
    return _Layers(_resized(pixels), placement, heat, saliency_map(grid[..., 0]) if saliency_map else None)


def _views(layers: _Layers, scale: float) -> Views:
    height, width = layers.grey.shape
    heat = layers.placement.to_original(layers.heat, width, height)
    saliency = b""
    if layers.saliency is not None:
        level = layers.placement.to_original(np.asarray(layers.saliency / scale, np.float32), width, height)
        saliency = _jpeg(blend(layers.grey, level))
    return Views(_jpeg(layers.grey), _jpeg(blend(layers.grey, heat)), saliency)


def _resized(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The image with LONG_SIDE_PX as its longest side, enlarged if it is smaller."""
    height, width = pixels.shape
    scale = LONG_SIDE_PX / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    operator = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    resized: Any = cv2.resize(pixels, size, interpolation=operator)
    return np.asarray(resized, np.uint8)


def _jpeg(image: NDArray[np.uint8]) -> bytes:
    _, encoded = cv2.imencode(".jpg", image, (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY))
    return bytes(encoded)
