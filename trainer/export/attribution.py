"""The heat map as forward operations of the graph, so that serving needs no gradient tape and every graph exports.

For a head of pooling and dense ReLU layers, the gradient of the logit by the last feature map is a product of the dense
kernels and the ReLU masks. Grad-CAM (Selvaraju 2017) averages it over the map, HiResCAM (Draelos 2021) does not.
"""

from collections.abc import Sequence
from typing import Any

from keras import ops

#: Pooling between feature map and head -> name of the method.
METHODS = {"average": "Grad-CAM", "flatten": "HiResCAM", "lung field": "evidence in the lung field"}


def local_heat(evidence: Any, field: Any) -> Any:
    """Heat [N, h, w] of local evidence [N, h, w, 1] (logits) and the lung field on its cells, [N, h, w, 1] in [0, 1].

    The probability of each cell, weighted as the cell counts for the image: nothing outside the lungs.
    """
    return ops.sigmoid(evidence[..., 0]) * field[..., 0]


def raw_heat(features: Any, head: Sequence[Any], pooling: str) -> Any:
    """Heat [N, h, w], zero or more, not yet scaled: the evidence for a positive logit, cell by cell.

    `features` is the last feature map [N, h, w, c], `head` the dense layers in order; the last has one neuron, or two
    whose difference, the second less the first, is the logit.
    """
    gradient = _gradient(features, head, pooling)
    return ops.relu(ops.sum(features * gradient, axis=-1))


def _gradient(features: Any, head: Sequence[Any], pooling: str) -> Any:
    """d logit / d features, as Grad-CAM or HiResCAM weighs them: [N, 1, 1, c] or [N, h, w, c]."""
    h, w, c = features.shape[1:]
    value = ops.mean(features, axis=(1, 2)) if pooling == "average" else ops.reshape(features, (-1, h * w * c))
    masks = []
    for layer in head[:-1]:
        value = ops.relu(ops.matmul(value, layer.kernel) + layer.bias)
        masks.append(ops.cast(value > 0, "float32"))
    # backwards through the head, one row vector for each image
    last = head[-1].kernel
    logit_kernel = last if last.shape[1] == 1 else last[:, 1:] - last[:, :1]
    gradient = ops.ones_like(value[:, :1]) * ops.transpose(logit_kernel)
    for layer, mask in zip(reversed(head[:-1]), reversed(masks), strict=True):
        gradient = ops.matmul(gradient * mask, ops.transpose(layer.kernel))
    if pooling == "average":
        return ops.reshape(gradient, (-1, 1, 1, c)) / (h * w)
    return ops.reshape(gradient, (-1, h, w, c))
