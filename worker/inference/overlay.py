"""A heat map drawn over its radiograph, as PNG bytes for people who read the worklist.

The picture keeps the original's aspect ratio; the legend is below it, never on it. Knows no files and no model.
"""

from functools import cache, lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.imaging.preprocess import Placement
from worker.inference import png

#: Long side of the PNG, px.
LONG_SIDE_PX = 768
#: Short side of a canvas that would otherwise be too narrow for its legend, px.
MIN_SHORT_SIDE_PX = 320
#: Approximate long side of the radiograph in the PNG: the legend takes a line. A smaller radiograph is enlarged.
PICTURE_PX = 740
#: How much of the radiograph the strongest heat covers; it stays readable underneath.
MAX_ALPHA = 0.6
#: Perceptually uniform, readable in print and with colour blindness. Its lower part is black, like lungs: not used.
COLOUR_MAP = cv2.COLORMAP_INFERNO
COLOUR_MAP_FROM = 0.30
#: A picture that must shrink by this factor or more is halved first: OpenCV averages whole blocks thirty times as fast
#: as fractional ones. The rest is interpolated; in 99 of 100 pixels the grey value differs by at most one.
HALVE_FROM = 2.5

#: Of an image beyond the model's familiarity limit.
UNLIKE = "UNLIKE the images of this model"

DISCLAIMER = ("relative evidence, not a diagnosis", "research use")

_FONT, _FONT_SCALE, _TEXT = cv2.FONT_HERSHEY_SIMPLEX, 0.45, (225, 225, 225)
_LINE_PX, _GAP_PX, _BAR_PX = 20, 14, 96


def overlay(
    display: NDArray[np.uint8],
    heat: NDArray[np.float32],
    placement: Placement,
    probability: float | None = None,
    threshold: float | None = None,
    is_unlike: bool = False,
) -> bytes:
    """PNG of `display` [H, W] with `heat` [h, w] in [0, 1] over it, 768 px on the long side, and a legend below.

    `heat` covers the model's grid; `placement` maps it to the original. `display` may be the original decoded at a
    lower resolution. Where heat is zero the radiograph is unchanged, and the opacity grows with the heat. Canvas and
    picture have the original's aspect ratio, except that a very narrow canvas is widened for the legend. `is_unlike`:
    the image lies beyond the model's familiarity limit, and the legend says so.
    """
    width, height = placement.width, placement.height
    canvas_w, canvas_h = _canvas_size(width, height)
    lines = _legend_lines(canvas_w, probability, threshold, is_unlike)
    legend_h = _LINE_PX * len(lines) + 8
    scale = min(canvas_w / width, (canvas_h - legend_h) / height)
    picture_w, picture_h = max(1, round(width * scale)), max(1, round(height * scale))
    left, top = (canvas_w - picture_w) // 2, (canvas_h - legend_h - picture_h) // 2
    canvas = np.zeros((canvas_h, canvas_w, 3), np.uint8)
    canvas[top : top + picture_h, left : left + picture_w] = blend(
        _resized(display, picture_w, picture_h), placement.to_original(np.nan_to_num(heat), picture_w, picture_h)
    )
    _draw_legend(canvas, canvas_h - legend_h, lines)
    return png.encode(canvas)


def blend(grey: NDArray[np.uint8], heat: NDArray[np.float32]) -> NDArray[np.uint8]:
    """BGR [h, w, 3] of `grey` and finite `heat` [h, w]: grey where heat is 0 or less, else mixed with its colour."""
    level = np.asarray(cv2.convertScaleAbs(np.clip(heat, 0.0, 1.0), alpha=255.0), np.uint8)
    blended = np.asarray(cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR), np.uint8)
    left, top, width, height = cv2.boundingRect(level)
    if width:  # the rest, half of a picture and more, stays grey
        box = np.s_[top : top + height, left : left + width]
        index = (level[box].astype(np.uint16) << 8) | grey[box]
        blended[box] = cv2.merge([cv2.LUT(index, channel) for channel in _blend_tables()])
    return blended


def heat_colours(level: NDArray[Any]) -> NDArray[np.uint8]:
    """BGR [h, w, 3] of heat levels [h, w], 0 to 255. The page draws its heat maps with them too."""
    inner = np.rint(255 * COLOUR_MAP_FROM + (1.0 - COLOUR_MAP_FROM) * level).astype(np.uint8)
    return np.asarray(cv2.applyColorMap(inner, COLOUR_MAP), np.uint8)


def _canvas_size(width: int, height: int) -> tuple[int, int]:
    scale = LONG_SIDE_PX / max(width, height)
    return max(MIN_SHORT_SIDE_PX, round(width * scale)), max(MIN_SHORT_SIDE_PX, round(height * scale))


def _resized(display: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    resized: Any = display
    while min(resized.shape[0] / height, resized.shape[1] / width) >= HALVE_FROM:
        even = resized[: resized.shape[0] // 2 * 2, : resized.shape[1] // 2 * 2]
        resized = cv2.resize(even, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(resized, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


@cache
def _blend_tables() -> tuple[NDArray[np.uint8], ...]:
    """For blue, green and red: 65,536 results of mixing, at heat level * 256 + grey."""
    level, grey = np.meshgrid(np.arange(256), np.arange(256), indexing="ij")
    colour = heat_colours(level).astype(np.float32)
    alpha = MAX_ALPHA * level / 255.0
    mixed = [np.rint(grey + alpha * (colour[..., channel] - grey)) for channel in range(3)]
    return tuple(channel.astype(np.uint8).reshape(1, -1) for channel in mixed)


def in_digits(probability: float) -> str:
    """Three digits; nothing is certain, so neither 0.000 nor 1.000."""
    return f"{min(max(probability, 0.001), 0.999):.3f}"


def _legend_lines(width: int, probability: float | None, threshold: float | None, is_unlike: bool) -> list[list[str]]:
    """The captions, as many per line as fit; the first line begins with the colour bar."""
    captions = [] if probability is None else [f"probability {in_digits(probability)}"]
    captions += [] if threshold is None else [f"threshold {in_digits(threshold)}"]
    captions += [UNLIKE] if is_unlike else []
    lines: list[list[str]] = [[]]
    used = _bar_width() + _GAP_PX
    for caption in (*captions, *DISCLAIMER):
        needed = _text_width(caption) + _GAP_PX
        if used + needed > width:
            lines.append([])
            used = _GAP_PX
        lines[-1].append(caption)
        used += needed
    return lines


def _draw_legend(canvas: NDArray[np.uint8], top: int, lines: list[list[str]]) -> None:
    for number, captions in enumerate(lines):
        baseline = top + _LINE_PX * (number + 1)
        at = _GAP_PX
        if number == 0:
            _draw_bar(canvas, at, baseline)
            at += _bar_width()
        for caption in captions:
            _write(canvas, caption, at, baseline)
            at += _text_width(caption) + _GAP_PX


def _draw_bar(canvas: NDArray[np.uint8], left: int, baseline: int) -> None:
    """The colour bar as it looks on a mid-grey picture, between its labels 0 and 1."""
    start = left + _text_width("0") + 5
    canvas[baseline - 11 : baseline, start : start + _BAR_PX] = _bar()
    _write(canvas, "0", left, baseline)
    _write(canvas, "1", start + _BAR_PX + 5, baseline)


@cache
def _bar() -> NDArray[np.uint8]:
    ramp = np.tile(np.linspace(0.0, 1.0, _BAR_PX, dtype=np.float32), (11, 1))
    return blend(np.full(ramp.shape, 110, np.uint8), ramp)


def _bar_width() -> int:
    return 2 * _text_width("0") + _BAR_PX + 10 + _GAP_PX


@lru_cache(maxsize=256)
def _text_width(text: str) -> int:
    (width, _), _ = cv2.getTextSize(text, _FONT, _FONT_SCALE, 1)
    return int(width)


def _write(canvas: NDArray[np.uint8], text: str, left: int, baseline: int) -> None:
    cv2.putText(canvas, text, (left, baseline), _FONT, _FONT_SCALE, _TEXT, 1, cv2.LINE_AA)
