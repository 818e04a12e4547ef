"""How good scores are: discrimination, operating characteristics and calibration, each with a 95 % interval.

numpy only. `labels` are 0 and 1, `scores` any real numbers, `probabilities` lie in [0, 1]; all are one-dimensional and
of one length. A metric that is not defined on the data (an empty class) is NaN with NaN bounds.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.int64]
Scores = NDArray[np.float64]

#: Normal quantile of a two-sided 95 % interval.
Z95 = 1.959963984540054

#: Resamples of the bootstrap; its seed is fixed, so a report repeats exactly.
BOOTSTRAP_ROUNDS = 1000

#: Equal-width bins of a reliability diagram.
BINS = 10


class Measured(NamedTuple):
    """A value, its 95 % interval, and the number of cases."""

    value: float
    low: float
    high: float
    n: int


class Bin(NamedTuple):
    """The cases whose probability lies in one bin of a reliability diagram; `share` of them are sick."""

    low: float
    high: float
    mean_probability: float
    share: Measured


class Confusion(NamedTuple):
    """Counts at one threshold; a score equal to the threshold is positive."""

    true_positive: int
    false_negative: int
    true_negative: int
    false_positive: int


def roc_auc(labels: Labels, scores: Scores) -> Measured:
    """Area under the ROC curve, ties counting one half, with DeLong's interval on the logit scale.

    DeLong, DeLong, Clarke-Pearson 1988 for the variance; Pepe 2003 for the logit, which keeps the bounds inside [0, 1].
    That variance is 0 where the AUC is 0 or 1, and unknown with a single case of a class: there the bounds are Wilson's
    for a share of as many cases as the smaller class has, which is no published interval of an AUC.
    """
    positives, negatives = scores[labels == 1], scores[labels == 0]
    m, n = len(positives), len(negatives)
    if not m or not n:
        return Measured(np.nan, np.nan, np.nan, len(labels))
    wins_of_positive = (_rank_below(negatives, positives)) / n
    losses_of_negative = 1 - _rank_below(positives, negatives) / m
    auc = float(wins_of_positive.mean())
    if m < 2 or n < 2 or auc in (0.0, 1.0):
        low, high = _wilson_bounds(auc, min(m, n))
        return Measured(auc, low, high, len(labels))
    variance = float(wins_of_positive.var(ddof=1) / m + losses_of_negative.var(ddof=1) / n)
    spread = Z95 * np.sqrt(variance) / (auc * (1 - auc))
    centre = np.log(auc / (1 - auc))
    return Measured(auc, float(_sigmoid(centre - spread)), float(_sigmoid(centre + spread)), len(labels))


def roc_curve(labels: Labels, scores: Scores) -> tuple[Scores, Scores, Scores]:
    """(false positive rate, true positive rate, thresholds), thresholds falling through the distinct scores."""
    thresholds = np.unique(scores)[::-1]
    positives, negatives = np.sort(scores[labels == 1]), np.sort(scores[labels == 0])
    tpr = 1 - np.searchsorted(positives, thresholds, side="left") / max(1, len(positives))
    fpr = 1 - np.searchsorted(negatives, thresholds, side="left") / max(1, len(negatives))
    return fpr, tpr, thresholds


def precision_recall_curve(labels: Labels, scores: Scores) -> tuple[Scores, Scores, Scores]:
    """(recall, precision, thresholds), falling through the distinct scores; recall is NaN without positives."""
    thresholds = np.unique(scores)[::-1]
    flagged = _at_least(scores, thresholds)
    sick = _at_least(scores[labels == 1], thresholds)
    recall = sick / (labels == 1).sum() if (labels == 1).any() else np.full(len(thresholds), np.nan)
    return np.asarray(recall, np.float64), np.asarray(sick / flagged, np.float64), thresholds


def average_precision(labels: Labels, scores: Scores) -> Measured:
    """Precision averaged over the steps of recall, without interpolation; bootstrap interval.

    The sum over the thresholds of (increase of recall) x precision, as scikit-learn's `average_precision_score`.
    """

    def value(y: Labels, s: Scores) -> float:
        recall, precision, _ = precision_recall_curve(y, s)
        return float((np.diff(recall, prepend=0) * precision).sum())

    return _bootstrap(value, labels, scores)


def confusion(labels: Labels, scores: Scores, threshold: float) -> Confusion:
    """Counts of `score >= threshold` against the labels."""
    flagged, sick = scores >= threshold, labels == 1
    return Confusion(
        int((flagged & sick).sum()),
        int((~flagged & sick).sum()),
        int((~flagged & ~sick).sum()),
        int((flagged & ~sick).sum()),
    )


def proportion(successes: int, n: int) -> Measured:
    """A share of `n` cases with Wilson's interval (1927), which treats them as independent."""
    if n == 0:
        return Measured(np.nan, np.nan, np.nan, 0)
    low, high = _wilson_bounds(successes / n, n)
    return Measured(successes / n, low, high, n)


def rates(counts: Confusion) -> dict[str, Measured]:
    """Sensitivity, specificity, predictive values and accuracy of one confusion table."""
    tp, fn, tn, fp = counts
    return {
        "sensitivity": proportion(tp, tp + fn),
        "specificity": proportion(tn, tn + fp),
        "ppv": proportion(tp, tp + fp),
        "npv": proportion(tn, tn + fn),
        "accuracy": proportion(tp + tn, tp + fn + tn + fp),
    }


def predictive_values(counts: Confusion, prevalence: float) -> dict[str, Measured]:
    """PPV and NPV at a `prevalence` (0 to 1, exclusive), independent of the share of positives in these cases.

    Bayes' rule on sensitivity and specificity; intervals on the logit scale (Mercaldo, Lau, Zhou 2007), with a count
    of none or all moved by one half.
    """
    tp, fn, tn, fp = counts
    if not tp + fn or not tn + fp:
        return dict.fromkeys(("ppv", "npv"), Measured(np.nan, np.nan, np.nan, sum(counts)))
    flagged_sick, flagged_well = tp / (tp + fn) * prevalence, fp / (tn + fp) * (1 - prevalence)
    spared_well, spared_sick = tn / (tn + fp) * (1 - prevalence), fn / (tp + fn) * prevalence
    sensitivity, specificity = _inside(tp, tp + fn), _inside(tn, tn + fp)
    odds = prevalence / (1 - prevalence)
    ppv_odds = sensitivity / (1 - specificity) * odds
    npv_odds = specificity / (1 - sensitivity) / odds
    ppv_variance = (1 - sensitivity) / sensitivity / (tp + fn) + specificity / (1 - specificity) / (tn + fp)
    npv_variance = sensitivity / (1 - sensitivity) / (tp + fn) + (1 - specificity) / specificity / (tn + fp)
    return {
        "ppv": _around(_share(flagged_sick, flagged_well), ppv_odds, ppv_variance, sum(counts)),
        "npv": _around(_share(spared_well, spared_sick), npv_odds, npv_variance, sum(counts)),
    }


def f1(labels: Labels, scores: Scores, threshold: float) -> Measured:
    """Harmonic mean of precision and sensitivity; bootstrap interval."""

    def value(y: Labels, s: Scores) -> float:
        tp, fn, _, fp = confusion(y, s, threshold)
        return 2 * tp / (2 * tp + fn + fp) if tp + fn + fp else np.nan

    return _bootstrap(value, labels, scores)


def brier(labels: Labels, probabilities: Scores) -> Measured:
    """Mean squared difference between probability and label; 0 is perfect; bootstrap interval."""
    return _bootstrap(lambda y, p: float(np.mean((p - y) ** 2)), labels, probabilities)


def calibration_error(labels: Labels, probabilities: Scores) -> Measured:
    """Expected calibration error over equal-width bins (Guo 2017): mean |observed share - mean probability|,
    weighted by the cases in a bin; bootstrap interval."""

    def value(y: Labels, p: Scores) -> float:
        gap = np.bincount(_bin_of(p), weights=p - y, minlength=BINS)
        return float(np.abs(gap).sum() / len(y))

    return _bootstrap(value, labels, probabilities)


def reliability(labels: Labels, probabilities: Scores) -> list[Bin]:
    """The bins of `calibration_error` that hold a case, shares with Wilson's interval."""
    index = _bin_of(probabilities)
    return [
        Bin(
            low=int(i) / BINS,
            high=(int(i) + 1) / BINS,
            mean_probability=float(probabilities[index == i].mean()),
            share=proportion(int(labels[index == i].sum()), int((index == i).sum())),
        )
        for i in np.unique(index)
    ]


def _bootstrap(value: Callable[[Labels, Scores], float], labels: Labels, scores: Scores) -> Measured:
    """`value` of the cases, with the percentile interval (Efron 1979) of BOOTSTRAP_ROUNDS draws of as many cases.

    Cases are drawn with replacement, of both classes together; draws on which the value is not defined are left out.
    """
    n = len(labels)
    if not n:
        return Measured(np.nan, np.nan, np.nan, 0)
    rng = np.random.default_rng(0)
    draws = [rng.integers(0, n, n) for _ in range(BOOTSTRAP_ROUNDS)]
    values = np.array([value(labels[i], scores[i]) for i in draws])
    values = values[~np.isnan(values)]
    low, high = np.quantile(values, (0.025, 0.975)) if len(values) else (np.nan, np.nan)
    return Measured(value(labels, scores), float(low), float(high), n)


def _bin_of(probabilities: Scores) -> NDArray[np.int64]:
    return np.minimum((probabilities * BINS).astype(np.int64), BINS - 1)


def _at_least(scores: Scores, thresholds: Scores) -> NDArray[np.int64]:
    """For each threshold, the number of scores equal to it or above."""
    return np.asarray(len(scores) - np.searchsorted(np.sort(scores), thresholds, side="left"), np.int64)


def _inside(count: int, n: int) -> float:
    """The share, at least half a case away from 0 and 1, where the logarithm of its odds is finite."""
    return min(max(count, 0.5), n - 0.5) / n


def _share(part: float, rest: float) -> float:
    return part / (part + rest) if part + rest else float("nan")


def _around(value: float, odds: float, variance: float, n: int) -> Measured:
    """`value` with the 95 % interval whose middle is these odds; `variance` is that of their logarithm.

    The bounds are moved so that they contain the value, which may be 0 or 1 where the odds were moved by half a case.
    """
    centre, spread = float(np.log(odds)), float(Z95 * np.sqrt(variance))
    low, high = _sigmoid(centre - spread), _sigmoid(centre + spread)
    return Measured(value, min(low, value), max(high, value), n)


def _rank_below(reference: Scores, scores: Scores) -> Scores:
    """For each score, how many of `reference` lie below it, ties counting one half."""
    ordered = np.sort(reference)
    return (np.searchsorted(ordered, scores, "left") + np.searchsorted(ordered, scores, "right")) / 2


def _wilson_bounds(share: float, n: int) -> tuple[float, float]:
    """Both ends of Wilson's interval: the shares from which the observed one is Z95 standard errors away."""
    centre = (share + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 / (1 + Z95**2 / n) * np.sqrt(share * (1 - share) / n + Z95**2 / (4 * n**2))
    low, high = max(0.0, float(centre - half)), min(1.0, float(centre + half))
    return (0.0 if share == 0 else low), (1.0 if share == 1 else high)  # exact, without rounding


def _sigmoid(x: float) -> float:
    return float(1 / (1 + np.exp(-x)))
