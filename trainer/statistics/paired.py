"""The difference of two models on the same cases, with its 95 % interval. numpy only.

`labels` are 0 and 1, `scores` any real numbers; all are one-dimensional and of one length. Differences: new minus old.
"""

from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainer.statistics.metrics import Z95, Labels, Scores

#: Resamples of the bootstrap; its seed is fixed, so a comparison repeats exactly.
ROUNDS = 4000
ROUNDS_AT_ONCE = 100
SEED = 0


class Difference(NamedTuple):
    """A difference and its 95 % interval."""

    value: float
    low: float
    high: float


def auc_difference(labels: Labels, old: Scores, new: Scores) -> tuple[Difference, float]:
    """The difference of the areas under two correlated ROC curves, and its two-sided p value.

    DeLong, DeLong, Clarke-Pearson 1988: the variance of the difference comes from the paired placement values. Raises
    ValueError with fewer than two cases of a class.
    """
    m, n = int((labels == 1).sum()), int((labels == 0).sum())
    if m < 2 or n < 2:
        raise ValueError(f"{m} positives and {n} negatives: at least two of each class are needed")
    old_positive, old_negative = _placements(labels, old)
    new_positive, new_negative = _placements(labels, new)
    of_positives, of_negatives = new_positive - old_positive, new_negative - old_negative
    value = float(of_positives.mean())
    spread = float(np.sqrt(of_positives.var(ddof=1) / m + of_negatives.var(ddof=1) / n))
    if spread == 0:
        return Difference(value, value, value), 1.0 if value == 0 else 0.0
    p_value = 2 * NormalDist().cdf(-abs(value) / spread)
    return Difference(value, max(-1.0, value - Z95 * spread), min(1.0, value + Z95 * spread)), p_value


def rate_difference(old: NDArray[np.bool_], new: NDArray[np.bool_], groups: NDArray[np.int64]) -> Difference:
    """The difference of two shares over the same cases, with the interval of `mean_difference`.

    `old` and `new` say for each case whether the model was right. If no case differs the interval
    has no width, and does not bound how rare such cases are.
    """
    return mean_difference(old.astype(np.float64), new.astype(np.float64), groups)


def mean_difference(old: Scores, new: Scores, groups: NDArray[np.int64]) -> Difference:
    """The difference of two means over the same cases, with a percentile interval of the paired bootstrap.

    Cases of one group (a patient) are drawn together, each with both of its values.
    """
    names, member = np.unique(groups, return_inverse=True)
    change = np.bincount(member, weights=new - old, minlength=len(names))
    cases = np.bincount(member, minlength=len(names))
    rng = np.random.default_rng(SEED)
    drawn = []
    for _ in range(ROUNDS // ROUNDS_AT_ONCE):
        chosen = rng.integers(0, len(names), (ROUNDS_AT_ONCE, len(names)))
        drawn.append(change[chosen].sum(axis=1) / cases[chosen].sum(axis=1))
    low, high = np.quantile(np.concatenate(drawn), (0.025, 0.975))
    return Difference(float(change.sum() / len(groups)), float(low), float(high))


def _placements(labels: Labels, scores: Scores) -> tuple[Scores, Scores]:
    """For each positive the share of negatives below it, for each negative the share of positives above it."""
    positives, negatives = scores[labels == 1], scores[labels == 0]
    return _share_below(negatives, positives), 1 - _share_below(positives, negatives)


def _share_below(reference: Scores, scores: Scores) -> Scores:
    """For each score, the share of `reference` that lies below it, ties counting one half."""
    ordered = np.sort(reference)
    both = np.searchsorted(ordered, scores, "left") + np.searchsorted(ordered, scores, "right")
    return np.asarray(both / (2 * len(reference)), np.float64)
