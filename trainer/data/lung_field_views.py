"""Training views that know where the lungs are: surroundings and single lungs taken from other images.

A view is uint8 [H, W, 3]: the picture, its lung field, and where it is known to hold no pneumonia; all 0 to 255.
"""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from trainer.data.augment import Augmentation, Image, change_gamma, degrade, match_histogram, reframe, restyle, to_uint8

#: Columns, as shares of the width, between which the gap between the lungs is looked for.
GAP_FROM, GAP_TO = 0.375, 0.625


class Radiograph(NamedTuple):
    """A picture [H, W] with its lung field (0 to 255), and whether its label is normal."""

    image: Image
    field: Image
    is_normal: bool


class FieldView(NamedTuple):
    """What a network is shown."""

    layers: NDArray[np.uint8]  #: [H, W, 3]
    clean: Image  #: the picture [H, W] before it was degraded
    keeps_label: bool  #: False: a lung is another's, so of the whole nothing is known but the normal half


def field_view(
    mine: Radiograph,
    other: Image,
    surroundings: Image,
    normal: Radiograph,
    how: Augmentation,
    rng: np.random.Generator,
) -> FieldView:
    """A view of `mine`, styled after `other`; the images of the other arguments serve in their shares of `how`."""
    image, field = restyle(mine.image, other, how, rng), mine.field
    known = np.full_like(image, 255 if mine.is_normal else 0)
    keeps_label = True
    if rng.random() < how.halves_share:
        image, field, half = put_beside(image, field, normal, rng)
        keeps_label = mine.is_normal  # a normal lung beside a normal one: a seam says nothing of the label
        known = np.maximum(known, half)
    if rng.random() < how.surroundings_share:
        image = swap_surroundings(image, field, surroundings, rng)
    framed = reframe(np.dstack([image, field, known]), field, how, rng)
    clean = framed[:, :, 0].copy()
    framed[:, :, 0] = degrade(clean, how, rng)
    return FieldView(framed, clean, keeps_label)


def swap_surroundings(image: Image, field: Image, surroundings: Image, rng: np.random.Generator) -> Image:
    """Keep the lungs of `image` with a margin of 1 to 5 % of the side, take the rest from `surroundings`.

    Each side gets a gamma of its own, so that neither brightness nor its difference tells the label. An image without
    a field stays as it is.
    """
    side = len(image)
    width = 2 * int(side * rng.uniform(0.01, 0.05)) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width))
    lungs = cv2.dilate((field > 127).astype(np.float32), kernel)
    if not lungs.any():
        return image
    lungs = cv2.GaussianBlur(lungs, (0, 0), side * rng.uniform(0.01, 0.025))
    inside, outside = (change_gamma(part, float(rng.uniform(0.7, 1.4))) for part in (image, surroundings))
    return to_uint8(inside * lungs + outside * (1 - lungs))


def put_beside(image: Image, field: Image, normal: Radiograph, rng: np.random.Generator) -> tuple[Image, Image, Image]:
    """Take the left or the right half from a normal image in the grey values of this one: picture, field, normal half.

    The halves meet in the gap between the lungs, softly. What the network says of the normal half can then only come
    from that half.
    """
    gap, shift = _gap(field), _gap(field) - _gap(normal.field)
    moved = np.array([[1, 0, shift], [0, 1, 0]], np.float32)
    size = image.shape[::-1]
    theirs = match_histogram(cv2.warpAffine(normal.image, moved, size, borderMode=cv2.BORDER_REPLICATE), image)
    their_field = cv2.warpAffine(normal.field, moved, size)
    half = np.zeros(image.shape, np.uint8)
    half[:, :gap] = 255
    if rng.random() < 0.5:
        half = 255 - half
    share = cv2.GaussianBlur(half.astype(np.float32) / 255, (0, 0), len(image) * rng.uniform(0.006, 0.022))
    mixed = [to_uint8(mine * (1 - share) + their * share) for mine, their in ((image, theirs), (field, their_field))]
    return mixed[0], mixed[1], half


def _gap(field: Image) -> int:
    """The column with the least lung in the middle quarter of a field [H, W]."""
    width = field.shape[1]
    first, last = int(GAP_FROM * width), int(GAP_TO * width)
    return first + int(np.argmin(field[:, first:last].sum(axis=0, dtype=np.int64)))
