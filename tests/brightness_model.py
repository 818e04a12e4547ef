"""A model that is easy to understand: probability is mean brightness times a gain. A real ONNX file with a card."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.ledger import card
from worker.imaging.preprocess import Preprocessing, Resize
from worker.inference.card import Golden, Population, ReducedDecode

SIZE = 8


def graph(gain: float, size: int = SIZE) -> Any:
    """uint8 image -> probability (mean brightness in [0, 1] * gain), heat map (the image), familiarity."""
    nodes = [
        helper.make_node("Cast", ["image"], ["grey"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["grey", "full"], ["unit"]),
        helper.make_node("ReduceMean", ["unit", "inner"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "gain"], ["scaled"]),
        helper.make_node("Clip", ["scaled", "zero", "one"], ["probability"]),
        helper.make_node("Squeeze", ["unit", "channel"], ["heatmap"]),
        helper.make_node("Add", ["mean", "mean"], ["familiarity"]),
    ]
    floats = {"full": 255.0, "gain": gain, "zero": 0.0, "one": 1.0}
    constants = [helper.make_tensor(name, TensorProto.FLOAT, [], [value]) for name, value in floats.items()]
    constants += [
        helper.make_tensor("inner", TensorProto.INT64, [3], [1, 2, 3]),
        helper.make_tensor("channel", TensorProto.INT64, [1], [3]),
    ]
    shapes: dict[str, list[Any]] = {"probability": ["N"], "heatmap": ["N", size, size], "familiarity": ["N"]}
    outputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n, shape in shapes.items()]
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", size, size, 1])
    made = helper.make_graph(nodes, "brightness", [image], outputs, constants)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def write_model(
    path: Path,
    gain: float = 1.0,
    *,
    name: str = "brightness",
    golden_gain: float | None = None,
    chosen_on: str = "",
    familiarity_limit: float | None = None,
    reduced_decode: ReducedDecode | None = None,
    population: Population | None = None,
    resize: Resize = Resize.LINEAR,
    size: int = SIZE,
) -> Path:
    """Write such a model, threshold 0.5; with `golden_gain` its golden expects the score that this gain gives.

    Familiarity is twice the mean brightness in [0, 1].
    """
    picture = np.full((size, size), 100, np.uint8)
    promised = min(1.0, 100 / 255 * (gain if golden_gain is None else golden_gain))
    golden = Golden("grey.png", cv2.imencode(".png", picture)[1].tobytes(), promised, {"CPUExecutionProvider": 1e-5})
    promises = replace(card(), name=name, preprocessing=Preprocessing(size=size, resize=resize), goldens=(golden,))
    promises = replace(promises, familiarity_limit=familiarity_limit, reduced_decode=reduced_decode)
    if population:
        promises = replace(promises, population=population)
    if chosen_on:
        promises = replace(promises, operating_point=replace(promises.operating_point, data_digest=chosen_on))
    proto = graph(gain, size)
    helper.set_model_props(proto, promises.to_metadata())
    onnx.checker.check_model(proto)
    path.write_bytes(proto.SerializeToString())
    return path


def write_image(path: Path, grey: int, noise: int = 0) -> Path:
    """A radiograph of one brightness, more or less; `noise` tells images of one brightness apart."""
    pixels = np.full((40, 48), grey, np.uint8)
    pixels[0, :16] = [255 * (noise >> bit & 1) for bit in range(16)]
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), pixels)
    return path
