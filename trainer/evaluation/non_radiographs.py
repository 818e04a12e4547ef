"""Generated pictures that are no chest radiographs, which a familiarity limit should refuse. Pure and seeded.

The program contains no photographs. `photograph_like` draws the dead leaves model (Lee, Mumford & Huang 2001), which
has the edges, occlusions and power spectrum of photographs; `clouds` is the most difficult noise, as smooth as a
radiograph.
"""

from collections.abc import Callable, Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]

#: Side of the pictures in px; the preprocessing resizes them to the model's grid.
SIDE = 320

WORDS = ("PATIENT", "HISTORY", "COUGH", "FEVER", "CHEST PA", "FINDINGS", "NONE", "IMPRESSION", "NORMAL", "FOLLOW UP")


def blank(rng: np.random.Generator) -> Image:
    """One grey from black to white, or a gradient between two of them, with noise of at most three grey levels."""
    first, second = rng.uniform(0, 255, 2)
    y, x = np.mgrid[0:SIDE, 0:SIDE] / (SIDE - 1)
    angle = rng.uniform(0, 2 * np.pi)
    slope = (x * np.cos(angle) + y * np.sin(angle), np.hypot(x - 0.5, y - 0.5), np.zeros_like(x))[int(rng.integers(3))]
    share = (slope - slope.min()) / max(float(np.ptp(slope)), 1e-9)
    grey = first + (second - first) * share
    return _to_uint8(grey + rng.standard_normal(grey.shape) * rng.uniform(0, 3))


def white_noise(rng: np.random.Generator) -> Image:
    """Independent pixels: uniform, normal of any spread, or black and white."""
    kind = int(rng.integers(3))
    if kind == 0:
        return np.asarray(rng.integers(0, 256, (SIDE, SIDE)), np.uint8)
    normal = rng.standard_normal((SIDE, SIDE))
    if kind == 1:
        return _to_uint8(rng.uniform(60, 200) + rng.uniform(20, 80) * normal)
    return _to_uint8(255.0 * (normal > rng.uniform(-1, 1)))


def clouds(rng: np.random.Generator) -> Image:
    """Noise whose amplitude falls as 1 / f^b, b from 0.5 (grain) to 2.5 (mist), over the whole grey range."""
    frequency = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)[None, :])
    frequency[0, 0] = 1.0
    spectrum = np.fft.rfft2(rng.standard_normal((SIDE, SIDE))) / frequency ** rng.uniform(0.5, 2.5)
    return _stretched(np.fft.irfft2(spectrum, s=(SIDE, SIDE)))


def photograph_like(rng: np.random.Generator) -> Image:
    """Dead leaves: 1,500 discs and boxes, their sizes by a power law, each over the last; shade, blur and grain."""
    picture = np.full((SIDE, SIDE), rng.uniform(0, 255), np.float32)
    box_share = rng.choice((0.0, 0.5))
    smallest, largest = 2.0, SIDE / 4
    radii = 1 / np.sqrt(rng.uniform(largest**-2, smallest**-2, 1500))
    for radius in radii:
        x, y = (float(place) for place in rng.integers(0, SIDE, 2))
        grey = float(rng.uniform(0, 255))
        if rng.random() < box_share:
            box = ((x, y), (2 * radius, radius * rng.uniform(0.5, 2)), rng.uniform(0, 90))
            cv2.fillPoly(picture, [cv2.boxPoints(box).astype(np.int32)], grey)
        else:
            cv2.circle(picture, (int(x), int(y)), int(radius), grey, -1)
    shade = 40 * np.linspace(-1, 1, SIDE)[:, None] * rng.uniform(-1, 1)
    grain = rng.standard_normal(picture.shape) * rng.uniform(0, 6)
    return _to_uint8(cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.5, 1.5)) + shade + grain)


def texture(rng: np.random.Generator) -> Image:
    """Stripes, checks or a warped wave, at any scale and angle: cloth, walls, water."""
    y, x = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    angle, cycles = rng.uniform(0, np.pi), np.exp(rng.uniform(np.log(3), np.log(40)))
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    bend = rng.uniform(0, 0.1) * np.sin(2 * np.pi * rng.uniform(1, 4) * across)
    wave = np.sin(2 * np.pi * cycles * (along + bend))
    kind = int(rng.integers(3))
    if kind == 1:
        wave = np.sign(wave)
    elif kind == 2:
        wave = np.sign(wave * np.sin(2 * np.pi * cycles * across))
    low, high = np.sort(rng.uniform(0, 255, 2))
    return _to_uint8(low + (high - low) * (wave + 1) / 2 + rng.standard_normal(wave.shape) * rng.uniform(0, 10))


def text_page(rng: np.random.Generator) -> Image:
    """Lines of words, dark on light or the other way round: a scanned report or a screen."""
    paper, ink = (int(rng.integers(200, 256)), int(rng.integers(0, 60)))
    if rng.random() < 0.3:
        paper, ink = ink, paper
    page = np.full((SIDE, SIDE), paper, np.uint8)
    scale = float(rng.uniform(0.3, 0.7))
    step = int(40 * scale)
    for bottom in range(step, SIDE, step):
        words = " ".join(rng.choice(WORDS, int(rng.integers(1, 8))))
        cv2.putText(
            page, words, (int(rng.integers(4, 24)), bottom), cv2.FONT_HERSHEY_SIMPLEX, scale, ink, 1, cv2.LINE_AA
        )
    return page


#: Kind -> function that draws one picture. All must be outside the limit.
KINDS: dict[str, Callable[[np.random.Generator], Image]] = {
    "blank": blank,
    "white noise": white_noise,
    "clouds": clouds,
    "photograph-like": photograph_like,
    "texture": texture,
    "text page": text_page,
}


def generate(kind: str, count: int, seed: int = 0) -> Iterator[Image]:
    """`count` pictures of one of KINDS; the same for the same seed."""
    for i in range(count):
        yield KINDS[kind](np.random.default_rng((seed, list(KINDS).index(kind), i)))


def _stretched(values: NDArray[np.floating]) -> Image:
    return _to_uint8(255 * (values - values.min()) / max(float(np.ptp(values)), 1e-9))


def _to_uint8(values: NDArray[np.floating]) -> Image:
    return np.asarray(np.clip(np.rint(values), 0, 255), np.uint8)
