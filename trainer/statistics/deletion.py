"""The deletion game, pure: an image turns into a reference pixel by pixel, in the order that a heat map gives.

Petsiuk, Das, Saenko 2018 (RISE). Deletion starts from the image and takes the hottest pixels first: the sooner the
probability falls, the better the map. Insertion starts from the reference and brings the hottest pixels first: the
sooner it rises, the better. Images are uint8 [H, W] on the model's grid; heat is [h, w], any range, coarse or fine.
"""

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Heat = NDArray[np.float32]

#: Of a curve: it has one point more. 15 images between its ends fill a batch of 16.
STEPS = 16

#: Standard deviations as fractions of the side: of the blurred reference, of the map that only knows the centre.
BLUR, CENTRE = 0.05, 0.25

THUMBNAIL_PX = 16


def centre_heat(shape: tuple[int, int]) -> Heat:
    """A round hill in the middle: where the lungs are in every radiograph, whatever the model saw."""
    height, width = shape
    y, x = np.mgrid[0.5:height, 0.5:width]
    away = ((y / height - 0.5) ** 2 + (x / width - 0.5) ** 2) / CENTRE**2
    return np.asarray(np.exp(-away / 2), np.float32)


def random_heat(shape: tuple[int, int], rng: np.random.Generator) -> Heat:
    """Noise as coarse as the model's own map, so that both take pixels away in patches of one size."""
    return rng.random(shape, np.float32)


def ranks(heat: Heat, breaks_ties: Heat, size: int) -> NDArray[np.int64]:
    """Each pixel's place [size, size] in the order from hot to cold, both maps spread bilinearly over the grid.

    Cells without heat are many and equal: `breaks_ties`, a random map, then decides, as nothing better is known.
    """
    spread = [cv2.resize(each, (size, size), interpolation=cv2.INTER_LINEAR).ravel() for each in (heat, breaks_ties)]
    order = np.lexsort((-spread[1], -spread[0]))
    places = np.empty(order.size, np.int64)
    places[order] = np.arange(order.size)
    return places.reshape(size, size)


def between(start: Image, end: Image, places: NDArray[np.int64]) -> list[Image]:
    """The STEPS - 1 images on the way from `start` to `end`, an equal share of pixels changing in each step."""
    shares = np.arange(1, STEPS) / STEPS * places.size
    return [np.where(places < share, end, start) for share in shares]


def area(curves: NDArray[np.float64]) -> NDArray[np.float64]:
    """Under each curve [..., STEPS + 1] over the share of pixels that changed: 0 to 1, by trapezoids."""
    return np.asarray(np.trapezoid(curves, dx=1 / STEPS, axis=-1), np.float64)


def blurred(image: Image, _: Sequence[Image]) -> Image:
    """The image without its detail: RISE's own reference for insertion."""
    return np.asarray(cv2.GaussianBlur(image, (0, 0), BLUR * image.shape[0]), np.uint8)


def closest(image: Image, normals: Sequence[Image]) -> Image:
    """Of `normals` the one whose thumbnail correlates best with the image's: lungs take the place of lungs."""
    thumbnails = np.stack([_thumbnail(normal) for normal in normals])
    return normals[int(np.argmax(thumbnails @ _thumbnail(image)))]


#: What pixels are taken from, given the image and normal images that the model does not flag.
REFERENCES: dict[str, Callable[[Image, Sequence[Image]], Image]] = {"normal": closest, "blurred": blurred}


def _thumbnail(image: Image) -> NDArray[np.float64]:
    """A small copy as a vector of mean 0 and length 1 (0 if the image is flat)."""
    small = cv2.resize(image, (THUMBNAIL_PX, THUMBNAIL_PX), interpolation=cv2.INTER_AREA)
    vector = np.asarray(small, np.float64).ravel()
    vector = vector - vector.mean()
    return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-9), np.float64)
