"""The limits of an acceptable lung field on a card: nearly all validation images keep them."""

from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from worker.inference.lung_field import FieldLimits, traits_of

#: The share of the validation images that each limit leaves out at its end. So few images do not show it exactly, so
#: each limit is wider by the slack.
LEFT_OUT, SLACK = 0.0025, 0.02


def limits_of(lungs: NDArray[np.floating]) -> FieldLimits:
    """Limits from the lung fields [N, h, w] of validation images: too small, too large, one-sided, cut off, uncertain.

    Only the sides that speak against a field are bounded: a field cannot be too certain or too well paired.
    """
    traits = [asdict(traits_of(each)) for each in np.asarray(lungs, np.float32)]

    def quantile(name: str, share: float) -> float:
        return float(np.quantile([each[name] for each in traits], share))

    def low(name: str) -> float:
        return round(max(0.0, quantile(name, LEFT_OUT) - SLACK), 4)

    def high(name: str) -> float:
        return round(min(1.0, quantile(name, 1 - LEFT_OUT) + SLACK), 4)

    return FieldLimits(
        area=(low("area"), high("area")),
        paired=(low("paired"), 1.0),
        edge=(0.0, high("edge")),
        certainty=(low("certainty"), 1.0),
    )
