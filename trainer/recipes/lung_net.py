"""The lung-field net: a U-Net (Ronneberger 2015) of 1 MB that outlines both lungs, at half the image's resolution.

It is trained once on drawn masks (`trainer lungs`). After that only its output is used, in the same way for every
image, because drawn masks predict the label (a mask drawn around a pneumonia is larger).
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Side of the input images and of the field, in pixels.
IMAGE_PX, FIELD_PX = 224, 112

#: Channels of the map at each halving of the resolution, from FIELD_PX down.
WIDTHS = (8, 16, 32, 48, 64)

#: Added to the standard deviation of an image, so that a blank image stays finite.
EPSILON = 1.0

#: Made by the command in README.md beside this; every recipe that uses a lung field loads these.
WEIGHTS = Path(__file__).parent / "lung_net.weights.h5"

BATCH = 32


def lung_net(size: int = IMAGE_PX) -> Any:
    """A `keras.Model` from display values [N, size, size, 1], 0 to 255, to the lungs' logits at half that size.

    `size` is a multiple of 32; the weights were made at IMAGE_PX.
    """
    from keras import Input, Model, layers

    image = Input((size, size, 1), name="radiograph")
    values = _standardised(layers.AveragePooling2D(2)(image))
    values = _block(values, WIDTHS[0])
    skipped = []
    for width in WIDTHS[1:]:
        skipped.append(values)
        values = _block(layers.MaxPooling2D()(values), width)
    for width, skip in zip(reversed(WIDTHS[:-1]), reversed(skipped), strict=True):
        values = _block(layers.Concatenate()([layers.UpSampling2D()(values), skip]), width)
    return Model(image, layers.Conv2D(1, 1, name="lungs")(values), name="lung_net")


def read_lung_net(size: int = IMAGE_PX) -> Any:
    """The net with WEIGHTS, not trainable."""
    net = lung_net(size)
    net.load_weights(WEIGHTS)
    net.trainable = False
    return net


def lung_fields(net: Any, grids: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The probability of lung [N, size, size], 0 to 255, for grids [N, size, size]."""
    found = np.empty(grids.shape, np.uint8)
    for start in range(0, len(grids), BATCH):
        logits = net.predict_on_batch(np.asarray(grids[start : start + BATCH], np.float32)[..., None])[..., 0]
        field = np.rint(255 * 0.5 * (1 + np.tanh(np.asarray(logits, np.float32) / 2))).astype(np.uint8)
        found[start : start + BATCH] = field.repeat(2, axis=1).repeat(2, axis=2)
    return found


def _standardised(values: Any) -> Any:
    """Each image minus its mean, divided by its standard deviation, so that exposure has no influence."""
    from keras import ops

    centred = values - ops.mean(values, axis=(1, 2, 3), keepdims=True)
    return centred / (ops.sqrt(ops.mean(ops.square(centred), axis=(1, 2, 3), keepdims=True)) + EPSILON)


def _block(values: Any, width: int) -> Any:
    from keras import layers

    for _ in range(2):
        values = layers.Conv2D(width, 3, padding="same", use_bias=False)(values)
        values = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(values))
    return values
