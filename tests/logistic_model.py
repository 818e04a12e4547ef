"""A model whose probability can be calibrated again: a sigmoid of the mean brightness; and a site's images for it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.brightness_model import SIZE, write_image
from tests.ledger import card
from worker.imaging.preprocess import Preprocessing
from worker.inference.card import Golden, OperatingPoint
from worker.inference.estimate import Estimate
from worker.inference.site_point import ValidationScores

#: Normals are dark and pneumonias bright; at the factory's threshold of 0.1 (grey 73) most normals are flagged.
NORMALS = tuple(range(40, 140))
POSITIVES = tuple(range(145, 205))


def logistic_graph(gain: float = 20.0) -> Any:
    """uint8 image -> probability = sigmoid(gain * mean brightness - 8), heat map (the image), familiarity."""
    nodes = [
        helper.make_node("Cast", ["image"], ["grey"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["grey", "full"], ["unit"]),
        helper.make_node("ReduceMean", ["unit", "inner"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "gain"], ["steep"]),
        helper.make_node("Add", ["steep", "offset"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["sigmoid"]),
        helper.make_node("Identity", ["sigmoid"], ["probability"]),
        helper.make_node("Squeeze", ["unit", "channel"], ["heatmap"]),
        helper.make_node("Add", ["mean", "mean"], ["familiarity"]),
    ]
    floats = {"full": 255.0, "gain": gain, "offset": -8.0}
    constants = [helper.make_tensor(name, TensorProto.FLOAT, [], [value]) for name, value in floats.items()]
    constants += [
        helper.make_tensor("inner", TensorProto.INT64, [3], [1, 2, 3]),
        helper.make_tensor("channel", TensorProto.INT64, [1], [3]),
    ]
    shapes: dict[str, list[Any]] = {"probability": ["N"], "heatmap": ["N", SIZE, SIZE], "familiarity": ["N"]}
    outputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n, shape in shapes.items()]
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", SIZE, SIZE, 1])
    made = helper.make_graph(nodes, "logistic", [image], outputs, constants)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def probability(grey: float, gain: float = 20.0) -> float:
    """The probability of an image of one grey value."""
    return float(1 / (1 + np.exp(8 - gain * grey / 255)))


def write_factory(path: Path, validation: Sequence[int] = POSITIVES, gain: float = 20.0, **changes: Any) -> Path:
    """Such a model; `validation` are the greys of its validation positives."""
    picture = np.full((SIZE, SIZE), 100, np.uint8)
    png = cv2.imencode(".png", picture)[1].tobytes()
    golden = Golden("grey.png", png, probability(100, gain), {"CPUExecutionProvider": 1e-5})
    half = Estimate(0.5, 0.4, 0.6, 100)
    promises = replace(
        card(),
        name="logistic",
        preprocessing=Preprocessing(size=SIZE),
        goldens=(golden,),
        operating_point=OperatingPoint(0.1, "fixed at 0.1", half, half, "0" * 64),
        familiarity_limit=0.7,
        metrics={"validation_auc": half, "test_auc": half, "test_specificity": half},
        validation_scores=ValidationScores((0.01, 0.02), tuple(probability(grey, gain) for grey in validation)),
    )
    proto = logistic_graph(gain)
    helper.set_model_props(proto, replace(promises, **changes).to_metadata())
    onnx.checker.check_model(proto)
    path.write_bytes(proto.SerializeToString())
    return path


def write_site(root: Path, normals: Sequence[int] = NORMALS, positives: Sequence[int] = POSITIVES) -> Path:
    """Images of these greys, each of another patient."""
    for label, greys in (("NORMAL", normals), ("PNEUMONIA", positives)):
        for i, grey in enumerate(greys):
            write_image(root / label / f"{label[0]}{i}" / f"{i}.png", grey, noise=i)
    return root
