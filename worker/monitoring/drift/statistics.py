"""The statistics of drift, pure: a population stability index corrected for chance, and a control chart.

PSI between n observed and m reference images over k bins is, when nothing has changed, about (1/n + 1/m) times a
chi-squared variable with k - 1 degrees of freedom (Yurdakul & Naranjo 2020). The usual limits of 0.10 and 0.25 are
therefore compared with PSI minus this mean, and no limit is lower than the value that chance exceeds once in a hundred
or in a thousand comparisons.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from schema.vocabulary import Stability
from worker.inference.reference import MEASURES, Counts, Histogram, Reference, Values

#: Usual limits above chance: a slight change, and a shift (Siddiqi 2006).
WATCH_PSI, SHIFT_PSI = 0.10, 0.25

#: Probability that chance alone gives a warning, and that it exceeds the limit.
WATCH_CHANCE, SHIFT_CHANCE = 0.01, 0.001

#: Below this number of images PSI is not judged: with ten bins and 400 reference images chance exceeds
#: 0.25 above its mean in one of a thousand comparisons.
MIN_IMAGES = 100

#: Added to every count, so that an empty bin is rare and not impossible.
PSEUDOCOUNT = 0.5

#: Tails of the control chart on each side: those of two and of three standard deviations.
WATCH_TAIL, LIMIT_TAIL = 0.02275, 0.00135

#: Images of one night, and of the nights before it, that a control chart needs.
MIN_NIGHT, MIN_BEFORE = 20, 100

#: A smaller change of the flag rate is within the limits: nights differ by more than chance (weekends, clinics).
SMALLEST_STEP = 0.05

#: Steps of expectation maximisation; two known classes settle in a few dozen.
EM_STEPS = 200


@dataclass(frozen=True)
class Expected:
    """Expected shares of the bins, and the number of reference images that they come from."""

    shares: Values
    images: float
    mean: float


@dataclass(frozen=True)
class Shift:
    """The comparison of one distribution with the reference."""

    excess: float  #: PSI minus its mean under chance; can be negative
    limit: float  #: of `excess`
    status: Stability


@dataclass(frozen=True)
class Shifts:
    """The comparison of some images with a reference, by measure."""

    mixture: dict[str, float]  #: class of the reference -> the share that explains the probabilities best
    shifts: dict[str, Shift]
    means: dict[str, tuple[float, float]]  #: observed, and expected for this mixture


@dataclass(frozen=True)
class Chart:
    """The flag rate of one night, and its limits from the nights before."""

    rate: float
    centre: float
    low: float
    high: float
    status: Stability


def psi(observed: Counts, expected: Values) -> float:
    """Population stability index of observed counts [k] against expected shares [k]: the sum of (p - q) ln(p / q)."""
    shares = _shares(observed)
    return float(np.sum((shares - expected) * np.log(shares / expected)))


def chance_psi(bins: int, observed: float, reference: float, tail: float | None = None) -> float:
    """PSI without a change: its mean, or the value that it exceeds with the probability `tail`."""
    freedom = bins - 1
    chi_squared = float(freedom)
    if tail is not None:  # Wilson & Hilferty 1931; within one per cent here
        spread = 2 / (9 * freedom)
        chi_squared = freedom * (1 - spread + NormalDist().inv_cdf(1 - tail) * math.sqrt(spread)) ** 3
    return chi_squared * (1 / observed + 1 / reference)


def mixture(observed: Counts, histogram: Histogram) -> Values:
    """The shares of the reference's classes [c] that explain the observed counts best (maximum likelihood).

    A class without reference images has share 0.
    """
    counts = np.array(histogram.counts)
    classes = np.stack([_shares(row) for row in counts])
    weights: Values = counts.any(axis=1) / counts.any(axis=1).sum()
    for _ in range(EM_STEPS if observed.any() else 0):
        joint = weights[:, None] * classes
        weights = (joint / joint.sum(axis=0)) @ observed / observed.sum()
    return weights


def expected_of(histogram: Histogram, weights: Values) -> Expected:
    """The reference with this mixture of its classes."""
    counts = np.array(histogram.counts)
    shares = weights @ np.stack([_shares(row) for row in counts])
    variance = float(np.sum(weights**2 / np.maximum(counts.sum(axis=1), 1)))
    return Expected(shares, 1 / variance, float(weights @ np.array(histogram.means)))


def compare(observed: Counts, expected: Expected) -> Shift:
    """Compare the counts of one measure with the expected ones."""
    n, bins = int(observed.sum()), len(observed)
    if n < MIN_IMAGES:
        return Shift(math.nan, math.nan, Stability.TOO_FEW)
    found, mean = psi(observed, expected.shares), chance_psi(bins, n, expected.images)
    bounds = [
        max(custom, chance_psi(bins, n, expected.images, tail) - mean)
        for custom, tail in ((WATCH_PSI, WATCH_CHANCE), (SHIFT_PSI, SHIFT_CHANCE))
    ]
    excess = found - mean
    status = Stability.STEADY if excess <= bounds[0] else Stability.WATCH
    return Shift(excess, bounds[1], Stability.LEFT_LIMITS if excess > bounds[1] else status)


def compare_all(values: Mapping[str, Values], reference: Reference) -> Shifts:
    """Compare the values [n] of every measure, by its name and without NaN, with the mixture that fits them best."""
    scores = reference.histograms[MEASURES[0]]
    weights = mixture(scores.count(values[MEASURES[0]]), scores)
    shifts: dict[str, Shift] = {}
    means: dict[str, tuple[float, float]] = {}
    for name in MEASURES:
        expected = expected_of(reference.histograms[name], weights)
        shifts[name] = compare(reference.histograms[name].count(values[name]), expected)
        means[name] = float(values[name].mean()) if len(values[name]) else math.nan, expected.mean
    return Shifts(dict(zip(reference.classes, map(float, weights), strict=True)), shifts, means)


def chart(flagged: int, n: int, flagged_before: int, n_before: int) -> Chart:
    """Compare the flag rate of one night with the nights before it (a p-chart).

    The limits include the uncertainty of the earlier rate: quantiles of the beta-binomial distribution with Jeffreys'
    prior.
    """
    if n < MIN_NIGHT or n_before < MIN_BEFORE:
        rate, centre = (f / m if m else math.nan for f, m in ((flagged, n), (flagged_before, n_before)))
        return Chart(rate, centre, math.nan, math.nan, Stability.TOO_FEW)
    rate, centre = flagged / n, flagged_before / n_before
    below = np.cumsum(_predicted(n, flagged_before, n_before))
    (warn_low, warn_high), (low, high) = (
        (int(np.searchsorted(below, tail, "right")), min(n, int(np.searchsorted(below, 1 - tail))))
        for tail in (WATCH_TAIL, LIMIT_TAIL)
    )
    status = Stability.STEADY if warn_low <= flagged <= warn_high else Stability.WATCH
    if not low <= flagged <= high and abs(rate - centre) >= SMALLEST_STEP:
        status = Stability.LEFT_LIMITS
    return Chart(rate, centre, low / n, high / n, status)


def worst(statuses: Sequence[Stability]) -> Stability:
    """The most urgent status."""
    return max(statuses, key=lambda status: status.rank)


def _predicted(n: int, flagged_before: int, n_before: int) -> Values:
    """Probability of 0 to n flagged images [n + 1], given the counts before."""
    a, b = flagged_before + 0.5, n_before - flagged_before + 0.5
    log_beta = [
        math.lgamma(x + a) + math.lgamma(n - x + b) - math.lgamma(x + 1) - math.lgamma(n - x + 1) for x in range(n + 1)
    ]
    rest = math.lgamma(n + 1) - math.lgamma(n + a + b) + math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    return np.exp(np.array(log_beta) + rest)


def _shares(counts: Counts) -> Values:
    """The share of each bin."""
    shares: Values = (counts + PSEUDOCOUNT) / (counts.sum() + PSEUDOCOUNT * len(counts))
    return shares
