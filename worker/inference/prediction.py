"""The result of a model for one image."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Prediction:
    """The result of a model for one image."""

    probability: float  #: calibrated, [0, 1]
    heatmap: NDArray[np.float32]  #: [h, w] in [0, 1], covering the model's grid
    familiarity: float  #: distance of the network's features from the training data; about 1 for familiar images
    lungs: NDArray[np.float32] | None = None  #: [h, w] probability of lung; None: the model has no lung net

    def is_unfamiliar(self, limit: float | None) -> bool:
        """Whether the familiarity is beyond the card's limit; NaN always is. Without a limit, nothing is."""
        return limit is not None and not self.familiarity <= limit
