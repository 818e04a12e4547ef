"""How a model's predictions change between two readings of the same images, and the bounds of doubt that follow."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np

from worker.inference.card import ModelCard, ReducedDecode
from worker.inference.prediction import Prediction
from worker.inference.reduced_decode import needs_full_decode

#: What is asked: the probability moves by no more than this, in this share; and at most this share of flags turns.
MOST, SHARE, FLIPS = 0.01, 0.99, 0.005

#: (sure below, sure from, margin of familiarity), as on a card.
Bounds = tuple[float, float, float]


@dataclass(frozen=True)
class Moved:
    """One image: its prediction in full, and at the lower resolution."""

    group: str
    level: int
    probability: float
    familiarity: float
    reduced_probability: float
    reduced_familiarity: float

    @property
    def distance(self) -> float:
        """Of the probabilities."""
        return abs(self.reduced_probability - self.probability)

    def flips(self, threshold: float) -> bool:
        """Whether the flag turns."""
        return (self.probability >= threshold) is not (self.reduced_probability >= threshold)


def bounds_of_doubt(found: Sequence[Moved], card: ModelCard) -> Bounds:
    """(sure below, sure from, margin of familiarity): outside them no picture's answer moved by more than `MOST`.

    Near 0 and 1 the same step of the network moves a probability less, so the bounds lie at half the odds of the lowest
    answer that moved by more, and at twice the odds of the highest. The margin: what the familiarity moved in `SHARE`.
    """
    far = [one.reduced_probability for one in found if one.distance > MOST]
    threshold = card.operating_point.threshold
    below, above = _with_odds(min([threshold, *far]), 0.5), _with_odds(max([threshold, *far]), 2.0)
    margin = float(np.quantile([abs(one.reduced_familiarity - one.familiarity) for one in found], SHARE))
    return round(below, 4), round(above, 4), round(margin, 3)


def judged(found: Sequence[Moved], card: ModelCard, decode: dict[str, float]) -> dict[str, Any]:
    """One syntax: each group and all, before and after doubts are read in full, and what that saves."""
    bounds = bounds_of_doubt(found, card)
    ordered = sorted(found, key=lambda one: one.group)
    groups = {name: _told(list(some), card, bounds) for name, some in groupby(ordered, key=lambda one: one.group)}
    groups["all"] = everything = _told(found, card, bounds)
    limit = card.familiarity_limit
    at_home = [one for one in found if limit is None or one.familiarity <= limit]
    in_doubt = _told(at_home, card, bounds)["in_doubt"]
    after = everything["doubts_in_full"]
    return {
        "decode": decode,
        "bounds": bounds,
        "groups": groups,
        "bounds_of_one_half_on_the_other": [
            _told(found[1 - half :: 2], card, bounds_of_doubt(found[half::2], card))["doubts_in_full"]
            for half in (0, 1)
        ],
        "in_doubt_of_familiar": in_doubt,
        "saves_of_familiar": round(1 - in_doubt - decode["reduced_ms"] / decode["full_ms"], 3),
        "meets_its_numbers": after["within"] >= SHARE and after["flips"] <= FLIPS * len(found),
    }


def _told(found: Sequence[Moved], card: ModelCard, bounds: Bounds) -> dict[str, Any]:
    bounded = replace(card, reduced_decode=ReducedDecode((), *bounds, len(found), ""))
    sure = [one for one in found if not needs_full_decode(_reduced(one), bounded)]
    threshold = card.operating_point.threshold
    return {
        "images": len(found),
        "levels": sorted({one.level for one in found}),
        "within": _share(sum(one.distance <= MOST for one in found), found),
        "largest": round(max(one.distance for one in found), 4),
        "flips": sum(one.flips(threshold) for one in found),
        "in_doubt": _share(len(found) - len(sure), found),
        "doubts_in_full": {
            "within": _share(len(found) - sum(one.distance > MOST for one in sure), found),
            "largest": round(max((one.distance for one in sure), default=0.0), 4),
            "flips": sum(one.flips(threshold) for one in sure),
        },
    }


def _reduced(one: Moved) -> Prediction:
    return Prediction(one.reduced_probability, np.zeros((1, 1), np.float32), one.reduced_familiarity)


def _share(part: int, found: Sequence[Moved]) -> float:
    return round(part / len(found), 4)


def _with_odds(probability: float, times: float) -> float:
    """The probability whose odds are so many times those of this one."""
    return times * probability / (1 + (times - 1) * probability)
