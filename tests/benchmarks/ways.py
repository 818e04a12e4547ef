"""Plain programs for the same task, on the same files: seconds a study, one study after another.

Speed is compared with them. Both read each file once, and have no store, no ledger and no overlay. They use the
libraries with their defaults, so ONNX Runtime and TensorFlow have all cores for an image.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray


def decodes(syntax: str) -> bool:
    """Whether pydicom can decode this transfer syntax here: for some it needs plugins."""
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import UID

    return not UID(syntax).is_compressed or get_decoder(UID(syntax)).is_available


def plain_s(paths: Sequence[Path], model: Path) -> float:
    """pydicom, `apply_voi_lut`, OpenCV's resize and ONNX Runtime, on the model of the service."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    side = session.get_inputs()[0].shape[1]
    session.run(None, {"image": np.zeros((1, side, side, 1), np.uint8)})
    warm(paths)
    began = time.perf_counter()
    for path in paths:
        session.run(None, {"image": _grid(path, side)[None, :, :, None]})
    return (time.perf_counter() - began) / len(paths)


def keras_s(paths: Sequence[Path], side: int = 224) -> float:
    """The same, but `model.predict` one by one, and Grad-CAM by GradientTape.

    A MobileNetV2 with random weights: they are as fast as trained ones, and the net that ships is larger.
    """
    import keras

    body = keras.applications.MobileNetV2(input_shape=(side, side, 3), include_top=False, weights=None)
    pooled = keras.layers.GlobalAveragePooling2D()(body.output)
    probability = keras.layers.Dense(1, activation="sigmoid")(pooled)
    model = keras.Model(body.input, probability)
    with_maps = keras.Model(body.input, [body.output, probability])
    _look(model, with_maps, np.zeros((1, side, side, 3), np.float32))
    warm(paths)
    began = time.perf_counter()
    for path in paths:
        grey = _grid(path, side)
        _look(model, with_maps, np.repeat(grey[None, :, :, None] / np.float32(127.5) - 1, 3, axis=3))
    return (time.perf_counter() - began) / len(paths)


def warm(paths: Sequence[Path]) -> None:
    """Read the files, so that they are in the page cache."""
    for path in paths:
        path.read_bytes()


def _look(model: Any, with_maps: Any, batch: NDArray[np.float32]) -> None:
    import tensorflow as tf

    model.predict(batch, verbose=0)
    with tf.GradientTape() as tape:
        maps, probability = with_maps(batch)
    gradient = tape.gradient(probability, maps)
    heat = tf.nn.relu(tf.reduce_sum(maps * tf.reduce_mean(gradient, axis=(1, 2), keepdims=True), axis=-1))
    cv2.resize(heat.numpy()[0], (768, 768))


def _grid(path: Path, side: int) -> NDArray[np.uint8]:
    import pydicom
    from pydicom.pixels.processing import apply_voi_lut

    dataset = pydicom.dcmread(path)
    shown: NDArray[Any] = np.asarray(apply_voi_lut(dataset.pixel_array, dataset), np.float64)
    shown = (shown - shown.min()) / max(float(np.ptp(shown)), 1.0) * 255.0
    return np.asarray(cv2.resize(shown.astype(np.uint8), (side, side), interpolation=cv2.INTER_LINEAR), np.uint8)
