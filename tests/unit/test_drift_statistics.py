"""The statistics of drift: PSI by hand, chance, the mixture of classes, the control chart."""

import math
from typing import Any

import numpy as np
import pytest

from schema.vocabulary import Stability
from worker.inference.reference import BINS, LABELLED, MEASURES, Histogram, Reference, Values, make_reference
from worker.monitoring.drift import statistics
from worker.monitoring.drift.statistics import MIN_IMAGES


def draw(rng: np.random.Generator, sick: int, healthy: int, shift: float = 0.0) -> Values:
    """Probabilities of so many sick and healthy ones."""
    return np.clip(np.concatenate([rng.beta(2, 6, healthy), rng.beta(6, 2, sick)]) + shift, 0, 1)


def reference_of(rng: np.random.Generator, sick: int = 300, healthy: int = 100) -> Reference:
    values = draw(rng, sick, healthy)
    return make_reference(dict.fromkeys(MEASURES, values), [0] * healthy + [1] * sick, 0.5, "d" * 64)


def compared(histogram: Histogram, values: Values) -> statistics.Shift:
    counts = histogram.count(values)
    return statistics.compare(counts, statistics.expected_of(histogram, statistics.mixture(counts, histogram)))


def test_psi_is_the_one_worked_by_hand() -> None:
    # 39 of 79 and 39 of 79 with half a count more each: shares 1/2, 1/2; expected 1/5, 4/5
    # (0.5 - 0.2) ln(0.5 / 0.2) + (0.5 - 0.8) ln(0.5 / 0.8) = 0.27489 + 0.14100
    assert statistics.psi(np.array([39, 39]), np.array([0.2, 0.8])) == pytest.approx(0.41589, abs=1e-5)
    assert statistics.psi(np.array([50, 50]), np.array([0.5, 0.5])) == 0


@pytest.mark.parametrize(("bins", "tail", "quantile"), [(10, 0.01, 21.666), (10, 0.001, 27.877), (4, 0.001, 16.266)])
def test_what_chance_exceeds_is_chi_squared(bins: int, tail: float, quantile: float) -> None:
    assert statistics.chance_psi(bins, 200, 400, tail) == pytest.approx(quantile * (1 / 200 + 1 / 400), rel=0.02)
    assert statistics.chance_psi(bins, 200, 400) == (bins - 1) * (1 / 200 + 1 / 400)


def test_where_nothing_changed_psi_is_what_chance_gives() -> None:
    rng = np.random.default_rng(3)
    shares, found, left = np.full(BINS, 1 / BINS), [], 0
    for _ in range(600):
        drawn = np.array((rng.multinomial(400, shares) + 0.5) / (400 + 0.5 * BINS), np.float64)
        expected = statistics.Expected(drawn, 400, 0.5)
        observed = rng.multinomial(150, shares)
        found.append(statistics.psi(observed, expected.shares))
        left += statistics.compare(observed, expected).status is Stability.LEFT_LIMITS
    assert np.mean(found) == pytest.approx(statistics.chance_psi(BINS, 150, 400), rel=0.08)
    assert np.mean(np.array(found) > statistics.chance_psi(BINS, 150, 400, 0.01)) < 0.03
    assert left == 0


def test_another_share_of_sick_people_is_no_drift_and_other_scores_are() -> None:
    rng = np.random.default_rng(5)
    histogram = reference_of(rng).histograms["probability"]
    few_sick = draw(rng, 40, 360)
    counts = histogram.count(few_sick)
    plain = statistics.expected_of(histogram, np.array([0.25, 0.75]))
    assert statistics.compare(counts, plain).status is Stability.LEFT_LIMITS, "without regard to the mixture"
    assert statistics.mixture(counts, histogram)[1] == pytest.approx(0.1, abs=0.07)
    assert compared(histogram, few_sick).status is Stability.STEADY
    undecided = rng.uniform(0.45, 0.55, 400)
    assert compared(histogram, undecided).status is Stability.LEFT_LIMITS


def test_too_few_images_are_not_judged() -> None:
    rng = np.random.default_rng(7)
    histogram = reference_of(rng).histograms["probability"]
    assert compared(histogram, np.full(MIN_IMAGES - 1, 0.5)).status is Stability.TOO_FEW
    assert compared(histogram, np.full(MIN_IMAGES, 0.5)).status is Stability.LEFT_LIMITS
    assert compared(histogram, np.array([])).status is Stability.TOO_FEW
    # the limit that stands on the card of the docstring: chance alone keeps within 0.25 from so many images on
    excess = statistics.chance_psi(BINS, MIN_IMAGES, 403, 0.001) - statistics.chance_psi(BINS, MIN_IMAGES, 403)
    assert excess < 0.25


def test_a_class_without_images_and_a_measure_without_spread_are_borne() -> None:
    measured = dict.fromkeys(MEASURES, np.full(120, 0.25))
    flat = make_reference(measured, [1] * 120, 0.5, "d" * 64)
    assert (flat.n, flat.flag_rate, flat.classes) == ((0, 120), 0.0, LABELLED)
    histogram = flat.histograms["dark_border"]
    assert list(statistics.mixture(histogram.count(np.full(200, 0.25)), histogram)) == [0, 1]
    assert compared(histogram, np.full(200, 0.25)).status is Stability.STEADY
    assert compared(histogram, np.full(200, 0.9)).status is Stability.LEFT_LIMITS
    unlabelled = make_reference(measured, None, 0.2, "d" * 64)
    assert (unlabelled.n, unlabelled.flag_rate) == ((120,), 1.0)
    assert Reference.from_json(unlabelled.to_json()) == unlabelled


@pytest.mark.parametrize("change", [{"n": [1, 1]}, {"classes": ["a"]}, {"histograms": {}}])
def test_a_reference_whose_counts_do_not_add_up_is_refused(change: dict[str, object]) -> None:
    made = reference_of(np.random.default_rng(1)).to_json()
    with pytest.raises(ValueError, match="add up"):
        Reference.from_json(made | change)


@pytest.mark.parametrize(
    ("change", "why"), [({"flagged": [1]}, "some of its classes"), ({"familiarity": None}, "lacks familiarity")]
)
def test_a_reference_that_could_not_be_compared_with_is_refused(change: dict[str, Any], why: str) -> None:
    made = reference_of(np.random.default_rng(1)).to_json()
    left = {name: histogram for name, histogram in made["histograms"].items() if name not in change}
    with pytest.raises(ValueError, match=why):
        Reference.from_json(made | {"histograms": left} | change)


@pytest.mark.parametrize("edges", [(), (0.5, 0.5), (0.5, math.nan)])
def test_edges_that_do_not_ascend_are_refused(edges: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="ascend"):
        Histogram(edges, (), ())


def test_a_night_is_held_against_the_nights_before() -> None:
    usual = statistics.chart(21, 100, 200, 1000)
    assert (usual.rate, usual.centre, usual.status) == (0.21, 0.2, Stability.STEADY)
    # of a binomial count of 100 at exactly 0.2, 0.00135 lie below 9 and above 33 (a sum of terms worked elsewhere)
    sure = statistics.chart(20, 100, 20_000_000, 100_000_000)
    assert (sure.low, sure.high) == (0.09, 0.33)
    vague = statistics.chart(20, 100, 40, 200)
    assert vague.low < sure.low < sure.high < vague.high, "few nights before tell the rate less surely"
    assert statistics.chart(30, 100, 20_000, 100_000).status is Stability.WATCH
    assert statistics.chart(40, 100, 200, 1000).status is Stability.LEFT_LIMITS
    assert statistics.chart(0, 100, 200, 1000).status is Stability.LEFT_LIMITS
    small = statistics.chart(1_150, 5_000, 20_000, 100_000)
    assert small.rate > small.high
    assert small.status is Stability.WATCH, "more than chance, and too little to matter"
    assert statistics.chart(10, 19, 200, 1000).status is Stability.TOO_FEW
    assert math.isnan(statistics.chart(0, 0, 0, 0).rate)
