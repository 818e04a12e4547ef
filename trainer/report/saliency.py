"""Which pixels change the logit of the trained network: SmoothGrad (Smilkov 2017).

It uses no gradient tape, so it runs on every backend of Keras. A trainable offset is added to the pixels; one step of
plain gradient descent at rate 1 changes the offset by exactly the gradient of the loss.
"""

from typing import Any

import cv2
import keras
import numpy as np
from numpy.typing import NDArray

from trainer.recipes.recipe import Network

#: Noisy copies of an image whose gradients are averaged, and their noise as a share of the image's range of grey.
COPIES = 16
NOISE = 0.1
#: Standard deviation of the final blur, as a share of the side.
BLUR = 0.01

METHOD = (
    f"SmoothGrad, the mean gradient of the logit by the pixels over {COPIES} copies with noise of {NOISE:.0%} of the"
    f" grey range, absolute, blurred by {BLUR:.0%} of the side"
)


class Saliency:
    """The saliency of a network, whose layers it freezes."""

    def __init__(self, network: Network) -> None:
        shape = network.model.inputs[0].shape[1:]
        # the input of the network is uint8, which has no gradient: the same layers get a float input
        same = keras.models.clone_model(
            network.model, input_tensors=keras.Input(shape, dtype="float32"), clone_function=lambda layer: layer
        )
        same.trainable = False
        self._offset = _Offset(same)
        pixels = keras.Input(shape, dtype="float32")
        self._stepper = keras.Model(pixels, self._offset(pixels))
        self._stepper.compile(keras.optimizers.SGD(1.0), loss=_fall_of_logit, jit_compile=False)

    def gradient(self, grids: NDArray[np.float32]) -> NDArray[np.float32]:
        """d logit / d pixel [size, size], the mean over the grids [N, size, size], grey values from 0 to 255."""
        self._offset.value.assign(np.zeros((*grids.shape[1:], 1), np.float32))
        self._stepper.train_on_batch(grids[..., None], np.zeros((len(grids), 1), np.float32))
        # copied first: Keras' variables do not support the array protocol of numpy 2 yet, and warn
        return np.array(keras.ops.convert_to_numpy(keras.ops.copy(self._offset.value)))[..., 0]

    def of(self, grid: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The saliency [size, size] of one grid: zero or more, unscaled, the same at every call."""
        noise = np.random.default_rng(0).normal(0, 1, (COPIES, *grid.shape))
        copies = grid + NOISE * float(np.ptp(grid)) * noise
        raw = np.abs(self.gradient(copies.astype(np.float32)))
        return np.asarray(cv2.GaussianBlur(raw, (0, 0), BLUR * len(grid)), np.float32)


class _Offset(keras.layers.Layer):  # type: ignore[misc]
    """The logits of a network for its input plus `value`, the only trainable variable."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def build(self, shape: tuple[int | None, ...]) -> None:
        self.value = self.add_weight(shape=shape[1:], initializer="zeros", name="offset")

    def call(self, pixels: Any) -> Any:
        return self.network(pixels + self.value, training=False)


def _fall_of_logit(_: Any, logit: Any) -> Any:
    return -logit
