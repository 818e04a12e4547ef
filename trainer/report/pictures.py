"""One image in three views, side by side: the radiograph, the served heat map and the saliency, as JPEG bytes."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from trainer.report.cases import Case
from worker.imaging.preprocess import Placement, apply
from worker.imaging.reading import read_display
from worker.inference.model import Model
from worker.inference.overlay import blend

LONG_SIDE_PX = 360
JPEG_QUALITY = 85

#: Of the saliency over all images of a report; what lies above is shown as 1. One scale, so that they compare.
SALIENCY_PERCENTILE = 99.5

#: From grids [size, size] of the model's preprocessing to saliency [size, size].
Ask = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


class Views(NamedTuple):
    """JPEG bytes; `saliency` is empty where it was left out."""

    radiograph: bytes
    heat: bytes
    saliency: bytes


class _Seen(NamedTuple):
    grey: NDArray[np.uint8]
    placement: Placement
    heat: NDArray[np.float32]
    saliency: NDArray[np.float32] | None


def draw(cases: Sequence[Case], root: Path, model: Model, ask: Ask | None) -> list[Views]:
    """The views of images that the model could read, in the original's aspect; heat comes from the model file."""
    seen = [_look(root / case.sample.path, model, ask) for case in cases]
    maps = [each.saliency for each in seen if each.saliency is not None]
    scale = max(float(np.percentile(np.concatenate(maps), SALIENCY_PERCENTILE)), 1e-12) if maps else 1.0
    return [_views(each, scale) for each in seen]


def _look(path: Path, model: Model, ask: Ask | None) -> _Seen:
    pixels = read_display(path.read_bytes()).pixels
    grid, placement = apply(pixels, model.card.preprocessing)
    heat = model.predict(grid[None])[0].heatmap
    return _Seen(_shrunk(pixels), placement, heat, ask(grid[..., 0]) if ask else None)


def _views(seen: _Seen, scale: float) -> Views:
    height, width = seen.grey.shape
    heat = seen.placement.to_original(seen.heat, width, height)
    saliency = b""
    if seen.saliency is not None:
        level = seen.placement.to_original(np.asarray(seen.saliency / scale, np.float32), width, height)
        saliency = _jpeg(blend(seen.grey, level))
    return Views(_jpeg(seen.grey), _jpeg(blend(seen.grey, heat)), saliency)


def _shrunk(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """At most LONG_SIDE_PX long; smaller ones are enlarged, so that all stand alike."""
    height, width = pixels.shape
    scale = LONG_SIDE_PX / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    operator = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    resized: Any = cv2.resize(pixels, size, interpolation=operator)
    return np.asarray(resized, np.uint8)


def _jpeg(image: NDArray[np.uint8]) -> bytes:
    _, encoded = cv2.imencode(".jpg", image, (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY))
    return bytes(encoded)
