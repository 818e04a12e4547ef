"""What a model says of one image."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Prediction:
    """What the model says of one image."""

    probability: float  #: calibrated, [0, 1]
    heatmap: NDArray[np.float32]  #: [h, w] in [0, 1], covering the model's grid
    familiarity: float  #: distance of the network's features from those of its training; about 1 at home
    lungs: NDArray[np.float32] | None = None  #: [h, w] probability of lung; None: the model has no lung net

    def is_unfamiliar(self, limit: float | None) -> bool:
        """Whether it lies beyond the card's limit; without a limit nothing does. What is no number does."""
        return limit is not None and not self.familiarity <= limit
