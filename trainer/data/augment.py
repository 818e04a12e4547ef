"""Changes to a training image that keep its label and remove its style. Pure functions of an image and a generator.

In the Kermany set the acquisition style predicts the label (sharp normals, hazy or tightly cropped pneumonias), so a
network that can use style will use it. Here each image takes the style of another image of either class, loses its
borders, and is resized and compressed in other ways. All images are uint8 [H, W], air dark.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]

OPERATORS = (cv2.INTER_NEAREST, cv2.INTER_LINEAR, cv2.INTER_AREA, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4)

#: Least share of the lung field that a random window keeps, and how often a window is drawn until it does.
FIELD_KEPT, WINDOWS_TRIED = 0.5, 20


@dataclass(frozen=True)
class Augmentation:
    """How often (`_share`, a fraction of the images) and how strongly each change is made. The default makes none."""

    fourier_share: float = 0.0
    fourier_band: float = 0.1  #: half-width of the mixed low-frequency square, as a fraction of the side
    histogram_share: float = 0.0  #: of all images; an image never gets both this and the Fourier mix
    crop_max: float = 0.0  #: largest cut on each side, as a fraction of it
    rotation_max_deg: float = 0.0
    scale_max: float = 0.0
    shift_max: float = 0.0  #: along each axis, as a fraction of the side
    shear_max: float = 0.0
    flip_share: float = 0.0
    is_border_repeated: bool = False  #: fill from outside with the values of the border; else with air
    area_min: float = 1.0  #: smallest share of the image that a random window keeps, in place of `crop_max`
    surroundings_share: float = 0.0  #: all but the lungs comes from another image; needs a lung field
    halves_share: float = 0.0  #: one lung comes from a normal image, so that half has no pneumonia; needs a lung field
    gamma_share: float = 0.0
    contrast_share: float = 0.0
    blur_share: float = 0.0
    sharpen_share: float = 0.0
    noise_share: float = 0.0
    resample_share: float = 0.0
    jpeg_share: float = 0.0
    erase_share: float = 0.0
    marker_share: float = 0.0


def augment(image: Image, other: Image, how: Augmentation, rng: np.random.Generator) -> Image:
    """One training view of `image`, styled after `other` (same shape); the same generator state gives the same view."""
    image = restyle(image, other, how, rng)
    return degrade(reframe(image, None, how, rng), how, rng)


def restyle(image: Image, other: Image, how: Augmentation, rng: np.random.Generator) -> Image:
    """The image in the style of `other`, by Fourier amplitudes or by histogram, or unchanged."""
    style = rng.random()
    if style < how.fourier_share:
        return mix_amplitude(image, other, how.fourier_band, rng.uniform(0.3, 1.0))
    if style < how.fourier_share + how.histogram_share:
        return match_histogram(image, other)
    return image


def degrade(image: Image, how: Augmentation, rng: np.random.Generator) -> Image:
    """Change exposure, optics, labels and storage, each in its share of the images."""
    for share, change in _CHANGES:
        if rng.random() < getattr(how, share):
            image = change(image, rng)
    return image


def reframe(
    layers: NDArray[np.uint8], field: Image | None, how: Augmentation, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Crop, rotate, scale, shear, shift and flip in one warp of [H, W] or [H, W, n]."""
    height, width = layers.shape[:2]
    left, top, right, bottom = _window(field, how, rng)
    angle = np.deg2rad(rng.uniform(-how.rotation_max_deg, how.rotation_max_deg))
    scale = 1 + rng.uniform(-how.scale_max, how.scale_max)
    shear = rng.uniform(-how.shear_max, how.shear_max)
    flip = -1.0 if rng.random() < how.flip_share else 1.0
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    stretch = np.diag([flip * scale / (1 - left - right), scale / (1 - top - bottom)])
    linear = turn @ np.array([[1, shear], [0, 1]]) @ stretch
    seen = np.array([(left + 1 - right) / 2 * width, (top + 1 - bottom) / 2 * height])
    centre = np.array([width / 2, height / 2])
    if how.shift_max:
        centre = centre + rng.uniform(-how.shift_max, how.shift_max, 2) * (width, height)
    matrix = np.hstack([linear, (centre - linear @ seen)[:, None]])
    border = cv2.BORDER_REPLICATE if how.is_border_repeated else cv2.BORDER_CONSTANT
    warped = cv2.warpAffine(layers, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=border)
    return np.asarray(warped, np.uint8)


def mix_amplitude(image: Image, other: Image, band: float, strength: float) -> Image:
    """Give `image` the low-frequency Fourier amplitude of `other`, keeping its phase (Yang & Soatto 2020, FDA).

    `strength` 0 leaves the image, 1 replaces the amplitude within `band` of the side around zero frequency.
    """
    height, width = image.shape
    rows, columns = int(height * band), int(width * band)
    mine = np.fft.rfft2(image.astype(np.float32))
    theirs = np.abs(np.fft.rfft2(other.astype(np.float32)))
    for window in (np.s_[: rows + 1, : columns + 1], np.s_[height - rows :, : columns + 1]):
        amplitude = np.abs(mine[window])
        mixed = (1 - strength) * amplitude + strength * theirs[window]
        mine[window] *= mixed / np.maximum(amplitude, 1e-6)
    return to_uint8(np.fft.irfft2(mine, s=image.shape))


def match_histogram(image: Image, other: Image) -> Image:
    """Map the grey values of `image` so that their distribution becomes that of `other`."""
    mine = np.cumsum(np.bincount(image.ravel(), minlength=256)) / image.size
    theirs = np.cumsum(np.bincount(other.ravel(), minlength=256)) / other.size
    table = to_uint8(np.interp(mine, theirs, np.arange(256)))
    return table[image]


def change_gamma(image: Image, gamma: float) -> Image:
    """Raise the display values, taken as [0, 1], to the power `gamma`."""
    return to_uint8(255 * (np.arange(256) / 255) ** gamma)[image]


def recompress(image: Image, quality: int) -> Image:
    """Through JPEG at `quality` (1 to 100) and back."""
    _, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE), np.uint8)


def resample(image: Image, size: int, there: int, back: int) -> Image:
    """To `size` px square with the OpenCV operator `there`, and to the old size with `back`."""
    height, width = image.shape
    small = cv2.resize(image, (size, size), interpolation=there)
    return np.asarray(cv2.resize(small, (width, height), interpolation=back), np.uint8)


def _window(field: Image | None, how: Augmentation, rng: np.random.Generator) -> tuple[float, float, float, float]:
    """The cuts at the left, top, right and bottom, as fractions of the sides.

    With `area_min` a random window (Szegedy 2015) of aspect ratio 3:4 to 4:3, drawn again while it keeps less than
    FIELD_KEPT of the lung field, because such a view does not show the label.
    """
    if how.area_min >= 1:
        left, top, right, bottom = rng.uniform(0, how.crop_max, 4)
        return left, top, right, bottom
    for _ in range(WINDOWS_TRIED):
        area, aspect = rng.uniform(how.area_min, 1), np.exp(rng.uniform(-np.log(4 / 3), np.log(4 / 3)))
        width, height = np.sqrt(area * aspect), np.sqrt(area / aspect)
        if width > 1 or height > 1:
            continue
        left, top = rng.uniform(0, 1 - width), rng.uniform(0, 1 - height)
        if field is None or _share_inside(field, left, top, width, height) >= FIELD_KEPT:
            return left, top, 1 - width - left, 1 - height - top
    return 0.0, 0.0, 0.0, 0.0


def _share_inside(field: Image, left: float, top: float, width: float, height: float) -> float:
    """The share of the lung field that lies in a window, all in fractions of the sides; 1 where there is no field."""
    rows, columns = field.shape
    inside = field[int(top * rows) : int((top + height) * rows), int(left * columns) : int((left + width) * columns)]
    return float(inside.sum(dtype=np.int64) / max(1, field.sum(dtype=np.int64))) if field.any() else 1.0


def _gamma(image: Image, rng: np.random.Generator) -> Image:
    return change_gamma(image, float(np.exp(rng.uniform(-0.6, 0.6))))


def _contrast(image: Image, rng: np.random.Generator) -> Image:
    return to_uint8(image * rng.uniform(0.7, 1.3) + rng.uniform(-25, 25))


def _blur(image: Image, rng: np.random.Generator) -> Image:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.4)), np.uint8)


def _sharpen(image: Image, rng: np.random.Generator) -> Image:
    soft = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.8, 2.0))
    amount = rng.uniform(0.3, 1.2)
    return np.asarray(cv2.addWeighted(image, 1 + amount, soft, -amount, 0), np.uint8)


def _noise(image: Image, rng: np.random.Generator) -> Image:
    return to_uint8(image + rng.standard_normal(image.shape, np.float32) * rng.uniform(1, 8))


def _resample(image: Image, rng: np.random.Generator) -> Image:
    side = image.shape[0]
    size = int(rng.integers(side // 2, side) if rng.random() < 0.6 else rng.integers(side, 2 * side))
    return resample(image, size, int(rng.choice(OPERATORS)), int(rng.choice(OPERATORS)))


def _jpeg(image: Image, rng: np.random.Generator) -> Image:
    return recompress(image, int(rng.integers(30, 101)))


def _erase(image: Image, rng: np.random.Generator) -> Image:
    """Cover one to four patches whose centres lie near the borders."""
    image = image.copy()
    height, width = image.shape
    for _ in range(int(rng.integers(1, 5))):
        x, y = _near_border(width, height, rng)
        half_w, half_h = int(width * rng.uniform(0.02, 0.12)), int(height * rng.uniform(0.02, 0.12))
        fill = (0, int(image.mean()), int(rng.integers(256)))[int(rng.integers(3))]
        image[max(0, y - half_h) : y + half_h, max(0, x - half_w) : x + half_w] = fill
    return image


def _marker(image: Image, rng: np.random.Generator) -> Image:
    """Write a bright letter near a border, as technicians' lead markers do."""
    height, width = image.shape
    x, y = _near_border(width, height, rng)
    letter, size = str(rng.choice(("R", "L", "P", "A"))), width / 224 * rng.uniform(0.3, 0.9)
    grey = int(rng.integers(150, 256))
    written = image.copy()
    cv2.putText(written, letter, (x, y), cv2.FONT_HERSHEY_SIMPLEX, size, grey, int(rng.integers(1, 3)), cv2.LINE_AA)
    return written


def _near_border(width: int, height: int, rng: np.random.Generator) -> tuple[int, int]:
    """A point in the outer seventh of the image."""
    along, depth = rng.random(), rng.uniform(0, 0.14)
    x, y = ((along, depth), (along, 1 - depth), (depth, along), (1 - depth, along))[int(rng.integers(4))]
    return int(x * width), int(y * height)


def to_uint8(values: NDArray[np.floating]) -> Image:
    return np.asarray(np.clip(np.rint(values), 0, 255), np.uint8)


#: In the order in which they happen to a picture: exposure, optics, labels on the film, storage.
_CHANGES: tuple[tuple[str, Callable[[Image, np.random.Generator], Image]], ...] = (
    ("gamma_share", _gamma),
    ("contrast_share", _contrast),
    ("blur_share", _blur),
    ("sharpen_share", _sharpen),
    ("erase_share", _erase),
    ("marker_share", _marker),
    ("noise_share", _noise),
    ("resample_share", _resample),
    ("jpeg_share", _jpeg),
)
