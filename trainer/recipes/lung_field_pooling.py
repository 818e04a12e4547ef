"""Pooling of local evidence: a map of logits, pooled over the lung field alone; and a loss for cells without pneumonia.

Multiple-instance learning (Ilse 2018 gives the view): an image is positive when some place in the lungs is. The
log-sum-exp between mean and maximum (Pinheiro & Collobert 2015) is weighted by the lung field, so nothing outside the
lungs counts for the probability, and the map that is shown is the evidence that counted.
"""

from typing import Any

import keras
from keras import ops

#: Between the mean (0) and the maximum (infinity) of the cells' logits.
SHARPNESS = 1.5

#: Weight of a cell without lung, so that an image without any still has a logit.
LEAST = 1e-3

#: Of the loss of cells known to be normal and of cells outside the lungs, beside the image's own cross-entropy.
NORMAL_WEIGHT, OUTSIDE_WEIGHT = 0.15, 0.1


@keras.saving.register_keras_serializable("trainer")
class FieldPooling(keras.layers.Layer):  # type: ignore[misc]
    """Evidence [N, h, w, 1] and lung field [N, h, w, 1] in [0, 1] -> logit [N, 1]."""

    def call(self, inputs: tuple[Any, Any]) -> Any:
        """The weighted log-mean-exp of the cells' logits."""
        evidence, field = inputs
        weight = field + LEAST
        highest = ops.stop_gradient(ops.max(evidence, axis=(1, 2), keepdims=True))
        powers = weight * ops.exp(SHARPNESS * (evidence - highest))
        mean = ops.sum(powers, axis=(1, 2)) / ops.sum(weight, axis=(1, 2))
        return ops.log(mean + 1e-9) / SHARPNESS + highest[:, 0, 0]


@keras.saving.register_keras_serializable("trainer")
class KnownCells(keras.layers.Layer):  # type: ignore[misc]
    """Passes the evidence on; adds a loss where it is positive outside the lungs or in lungs known to be normal."""

    def call(self, inputs: tuple[Any, Any, Any]) -> Any:
        """Evidence, lung field and known-normal share, all [N, h, w, 1]."""
        evidence, field, normal = inputs
        wrong = ops.softplus(evidence)
        for weight, cells in ((NORMAL_WEIGHT, field * normal), (OUTSIDE_WEIGHT, 1 - field)):
            count = ops.sum(ops.cast(cells > 0, evidence.dtype), axis=(1, 2)) + 1
            self.add_loss(weight * ops.mean(ops.sum(cells * wrong, axis=(1, 2)) / count))
        return evidence
