"""How far an image lies from what the network was trained on: a Mahalanobis distance of its pooled features.

The covariance is kept as its largest principal directions plus one variance for all the rest (probabilistic PCA,
Tipping & Bishop 1999): a 1,280-dimensional covariance of 4,000 images cannot be inverted soundly, and would be 6 MB.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

RANK = 64


@dataclass(frozen=True)
class Familiarity:
    """Centre [c], scaled directions [c, rank] and the variance of what they leave; float32, for the graph."""

    centre: NDArray[np.float32]
    whitening: NDArray[np.float32]  #: principal directions over their standard deviations
    directions: NDArray[np.float32]  #: the same, of unit length
    rest_deviation: float

    def distance(self, pooled: Any) -> Any:
        """Distance [N] of pooled features [N, c], in standard deviations over the square root of the dimensions.

        About 1 for an image like those of the training set.
        """
        from keras import ops

        centred = pooled - self.centre
        inside = ops.matmul(centred, self.directions)
        left = (centred - ops.matmul(inside, self.directions.T)) / self.rest_deviation
        squared = ops.sum(ops.square(ops.matmul(centred, self.whitening)), -1) + ops.sum(ops.square(left), -1)
        return ops.sqrt(squared / self.centre.shape[0])


def measure(pooled: NDArray[np.float32]) -> Familiarity:
    """Fit to the pooled features [N, c] of the training images."""
    values = pooled.astype(np.float64)
    centre = values.mean(axis=0)
    _, singular, directions = np.linalg.svd(values - centre, full_matrices=False)
    variance = singular**2 / max(1, len(values) - 1)
    rank = max(1, min(RANK, len(values) // 2, values.shape[1] - 1))
    rest = float(variance[rank:].sum() / (values.shape[1] - rank))
    floor = max(rest, 1e-6)
    kept = directions[:rank].T
    whitening = kept / np.sqrt(np.maximum(variance[:rank], floor))
    return Familiarity(
        centre.astype(np.float32), whitening.astype(np.float32), kept.astype(np.float32), float(np.sqrt(floor))
    )
