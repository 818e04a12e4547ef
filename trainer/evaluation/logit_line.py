"""The line that a site's calibration puts between a model's logit and its sigmoid; and the digest of the weights.

Two files of one digest have the same weights and order all images the same: they differ in calibration and card only.
"""

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from trainer.statistics.metrics import Scores
from trainer.statistics.operating_point import Calibration
from worker.errors import ModelRefused

#: Names of the two nodes and of their constants.
SCALE, SHIFT = "site_scale", "site_shift"

#: Operations that may follow the sigmoid.
PASSING = ("Identity", "Squeeze", "Reshape", "Cast")

#: Probabilities are kept this far from 0 and 1, where float32 has no more steps.
SMALLEST = 2.0**-24


class Line(NamedTuple):
    """probability = sigmoid(scale * logit + shift), where the logit is that of the probability without the line."""

    scale: float = 1.0
    shift: float = 0.0

    def after_calibration(self, first: Calibration) -> Calibration:
        """Calibration and line in one: sigmoid(scale * (logit / temperature + bias) + shift)."""
        return Calibration(first.temperature / self.scale, self.scale * first.bias + self.shift)

    def of(self, probabilities: Scores) -> Scores:
        """The probabilities that follow from those without the line."""
        return np.asarray(0.5 * (1 + np.tanh((self.scale * logits_of(probabilities) + self.shift) / 2)), np.float64)


def logits_of(probabilities: Scores) -> Scores:
    """The logits of probabilities; 0 and 1 count as SMALLEST from there."""
    inside = np.clip(np.asarray(probabilities, np.float64), SMALLEST, 1 - SMALLEST)
    return np.asarray(np.log(inside / (1 - inside)), np.float64)


def set_line(proto: Any, line: Line) -> None:
    """Give the graph this line in place of the one it has; raises ModelRefused without a sigmoid at its end."""
    remove_line(proto)
    if line != Line():
        add_line(proto, line, SCALE, SHIFT)


def add_line(proto: Any, line: Line, scale: str, shift: str) -> None:
    """Put a line before the sigmoid, after what is there, by nodes of these names; raises ModelRefused without one."""
    from onnx import TensorProto, helper

    nodes = proto.graph.node
    place = _place_of_sigmoid(proto)
    logit = nodes[place].input[0]
    scaled, shifted = f"{scale}:0", f"{shift}:0"
    nodes[place].input[0] = shifted
    nodes.insert(place, helper.make_node("Add", [scaled, shift], [shifted], name=shift))
    nodes.insert(place, helper.make_node("Mul", [logit, scale], [scaled], name=scale))
    constants = ((scale, line.scale), (shift, line.shift))
    for name, value in constants:
        proto.graph.initializer.append(helper.make_tensor(name, TensorProto.FLOAT, [], [value]))


def remove_line(proto: Any) -> None:
    """Take the line out of a graph, which is then as it was before."""
    graph = proto.graph
    ours = {node.name: node for node in graph.node if node.name in (SCALE, SHIFT)}
    if not ours:
        return
    logit, shifted = ours[SCALE].input[0], ours[SHIFT].output[0]
    for node in graph.node:
        node.input[:] = [logit if name == shifted else name for name in node.input]
    for each in ours.values():
        graph.node.remove(each)
    for constant in [w for w in graph.initializer if w.name in (SCALE, SHIFT)]:
        graph.initializer.remove(constant)


def weights_digest(path: Path) -> str:
    """SHA-256 of the graph and its weights, without line and card."""
    import onnx

    proto = onnx.load(path)
    remove_line(proto)
    return hashlib.sha256(proto.graph.SerializeToString(deterministic=True)).hexdigest()


def _place_of_sigmoid(proto: Any) -> int:
    """The place of the sigmoid that gives the probability; only nodes that pass its output on may follow it."""
    makers = {name: place for place, node in enumerate(proto.graph.node) for name in node.output}
    wanted = "probability"
    while (place := makers.get(wanted)) is not None:
        node = proto.graph.node[place]
        if node.op_type == "Sigmoid":
            return place
        if node.op_type not in PASSING:
            break
        wanted = node.input[0]
    raise ModelRefused("its graph does not end in a sigmoid, so its probability cannot be calibrated again")
