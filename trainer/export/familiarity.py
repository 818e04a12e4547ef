"""Familiarity: the Mahalanobis distance of an image's pooled features from the training images, and its limit.

The features come from an intermediate map. The last map keeps only what predicts the label, and there noise is close
to radiographs. The covariance is stored as its largest principal directions plus one variance for all the rest
(probabilistic PCA, Tipping & Bishop 1999), which is well-defined with few images too.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worker.errors import ModelRefused

RANK = 128

#: Fraction of the validation images that the limit accepts. It holds back negatives alone; of some hundred images three
#: unusual pneumonias must not set it.
KEPT = 0.99

#: Added to the limit, for the rounding of other runtimes.
SLACK = 1e-3


@dataclass(frozen=True)
class Familiarity:
    """Centre [c], principal directions [c, rank], their standard deviations [rank], and that of the remainder."""

    centre: NDArray[np.float32]
    directions: NDArray[np.float32]  #: of unit length
    deviations: NDArray[np.float32]
    rest_deviation: float

    def distance(self, pooled: Any) -> Any:
        """Distance [N] of pooled features [N, c], in standard deviations over the square root of the dimensions.

        About 1 for an image like those of the training set.
        """
        from keras import ops

        centred = pooled - self.centre
        along = ops.matmul(centred, self.directions)
        left = centred - ops.matmul(along, self.directions.T)
        squared = ops.sum(ops.square(along / self.deviations), -1) + ops.sum(ops.square(left / self.rest_deviation), -1)
        return ops.sqrt(squared / self.centre.shape[0])


def measure(pooled: NDArray[np.float32]) -> Familiarity:
    """Fit to the pooled features [N, c] of the training images."""
    values = pooled.astype(np.float64)
    centre = values.mean(axis=0)
    variance, directions = np.linalg.eigh(np.cov(values, rowvar=False))
    variance, directions = variance[::-1], directions[:, ::-1]  # the largest first
    rank = max(1, min(RANK, len(values) // 2, values.shape[1] - 1))
    floor = max(float(variance[rank:].mean()), 1e-6)
    return Familiarity(
        centre.astype(np.float32),
        directions[:, :rank].astype(np.float32),
        np.sqrt(np.maximum(variance[:rank], floor)).astype(np.float32),
        float(np.sqrt(floor)),
    )


def limit_of(distances: NDArray[np.floating]) -> float:
    """The smallest distance that at least KEPT of the validation images [N] do not exceed.

    Below 100 images that is the largest distance: so few images cannot estimate one in a hundred. Raises
    ModelRefused when a distance is not finite.
    """
    if not np.isfinite(distances).all():
        raise ModelRefused("the familiarity of a validation image is not a finite number, so no limit can be set")
    return round(float(np.quantile(distances, KEPT, method="inverted_cdf")) * (1 + SLACK), 4)
