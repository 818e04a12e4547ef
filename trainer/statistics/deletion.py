"""The deletion and insertion tests of a heat map: replace pixels by those of a reference, hottest first. Pure.

Petsiuk, Das, Saenko 2018 (RISE). Deletion starts from the image and replaces the hottest pixels first: the sooner the
probability falls, the better the map. Insertion starts from the reference and restores the hottest pixels first: the
sooner the probability rises, the better. Images are uint8 [H, W] on the model's grid; heat is [h, w], any range, coarse
or fine.
"""

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Heat = NDArray[np.float32]

#: Steps of a curve, which has one point more. The 15 images between its ends fit a batch of 16.
STEPS = 16

#: Standard deviations of the blurred reference and of the centre map, as fractions of the side.
BLUR, CENTRE = 0.05, 0.25

THUMBNAIL_PX = 16


def centre_heat(shape: tuple[int, int]) -> Heat:
    """A Gaussian in the centre, where the lungs are in every radiograph: a baseline that ignores the image."""
    height, width = shape
    y, x = np.mgrid[0.5:height, 0.5:width]
    away = ((y / height - 0.5) ** 2 + (x / width - 0.5) ** 2) / CENTRE**2
    return np.asarray(np.exp(-away / 2), np.float32)


def random_heat(shape: tuple[int, int], rng: np.random.Generator) -> Heat:
    """Noise as coarse as the model's map, so that both replace pixels in patches of the same size."""
    return rng.random(shape, np.float32)


def ranks(heat: Heat, breaks_ties: Heat, size: int) -> NDArray[np.int64]:
    """The rank [size, size] of each pixel from hot to cold, both maps enlarged bilinearly to the grid.

    Many cells have no heat and are equal; there the random map `breaks_ties` decides.
    """
    spread = [cv2.resize(each, (size, size), interpolation=cv2.INTER_LINEAR).ravel() for each in (heat, breaks_ties)]
    order = np.lexsort((-spread[1], -spread[0]))
    places = np.empty(order.size, np.int64)
    places[order] = np.arange(order.size)
    return places.reshape(size, size)


def between(start: Image, end: Image, places: NDArray[np.int64]) -> list[Image]:
    """The STEPS - 1 images between `start` and `end`; each step changes an equal share of the pixels."""
    shares = np.arange(1, STEPS) / STEPS * places.size
    return [np.where(places < share, end, start) for share in shares]


def area(curves: NDArray[np.float64]) -> NDArray[np.float64]:
    """The area under each curve [..., STEPS + 1] over the share of changed pixels, 0 to 1, by trapezoids."""
    return np.asarray(np.trapezoid(curves, dx=1 / STEPS, axis=-1), np.float64)


def blurred(image: Image, _: Sequence[Image]) -> Image:
    """The image without detail: the reference of RISE for insertion."""
    return np.asarray(cv2.GaussianBlur(image, (0, 0), BLUR * image.shape[0]), np.uint8)


def closest(image: Image, normals: Sequence[Image]) -> Image:
    """The image of `normals` whose thumbnail correlates best with the image's, so that lungs replace lungs."""
    thumbnails = np.stack([_thumbnail(normal) for normal in normals])
    return normals[int(np.argmax(thumbnails @ _thumbnail(image)))]


#: Name -> the reference, given the image and normal images that the model does not flag.
REFERENCES: dict[str, Callable[[Image, Sequence[Image]], Image]] = {"normal": closest, "blurred": blurred}


def _thumbnail(image: Image) -> NDArray[np.float64]:
    """A small copy as a vector of mean 0 and length 1 (0 if the image is flat)."""
    small = cv2.resize(image, (THUMBNAIL_PX, THUMBNAIL_PX), interpolation=cv2.INTER_AREA)
    vector = np.asarray(small, np.float64).ravel()
    vector = vector - vector.mean()
    return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-9), np.float64)
