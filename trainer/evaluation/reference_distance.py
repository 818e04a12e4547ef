"""How far a site's images and their scores lie from a model's reference, without labels."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from worker.errors import ModelRefused
from worker.inference.card import NO_REFERENCE, ModelCard
from worker.inference.json_values import without_nan
from worker.inference.reference import Values
from worker.monitoring.drift.statistics import Shifts, compare_all


@dataclass(frozen=True)
class Distance:
    """Images of a site compared with a model's reference, as `worker drift` compares a scanner's."""

    model: str
    images: int
    flag_rate: float  #: at the card's threshold
    reference_flag_rate: float
    familiar: float | None  #: share of the images within the card's familiarity limit
    compared: Shifts

    def to_json(self) -> dict[str, Any]:
        """Plain values; NaN becomes null."""
        plain: dict[str, Any] = without_nan(self)
        return plain


def distance(card: ModelCard, values: Mapping[str, Values]) -> Distance:
    """Compare the values [N] of every measure with the card's reference; raises ModelRefused where it has none."""
    if card.reference is None:
        raise ModelRefused(f"its card has {NO_REFERENCE}")
    probabilities, limit = values["probability"], card.familiarity_limit
    return Distance(
        model=card.name,
        images=len(probabilities),
        flag_rate=float((probabilities >= card.operating_point.threshold).mean()),
        reference_flag_rate=card.reference.flag_rate,
        familiar=None if limit is None else float((values["familiarity"] <= limit).mean()),
        compared=compare_all({name: each[~np.isnan(each)] for name, each in values.items()}, card.reference),
    )
