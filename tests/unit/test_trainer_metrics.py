"""Metrics against numbers calculated by hand or published."""

import math

import numpy as np
import pytest

from trainer.statistics import metrics


def test_auc_counts_ties_one_half() -> None:
    # pairs (positive, negative): 3>1, 3>2, 2>1, 2=2 -> (3 + 0.5) / 4
    auc = metrics.roc_auc(np.array([0, 0, 1, 1]), np.array([1.0, 2.0, 2.0, 3.0]))
    assert auc.value == pytest.approx(0.875)


def test_auc_interval_follows_delong() -> None:
    labels = np.array([1, 1, 1, 0, 0, 0])
    scores = np.array([0.9, 0.8, 0.3, 0.7, 0.2, 0.1])
    auc = metrics.roc_auc(labels, scores)
    # placements: positives 1, 1, 2/3; negatives 2/3, 1, 1 -> both variances 1/27; var(AUC) = 2/81
    deviation = math.sqrt(2 / 81)
    assert auc.value == pytest.approx(8 / 9)
    spread = metrics.Z95 * deviation / (8 / 9 * 1 / 9)
    logit = math.log(8)
    assert auc.low == pytest.approx(1 / (1 + math.exp(-(logit - spread))))
    assert auc.high == pytest.approx(1 / (1 + math.exp(-(logit + spread))))


def test_perfect_separation_still_has_a_lower_bound_below_one() -> None:
    auc = metrics.roc_auc(np.array([0, 0, 0, 1, 1, 1]), np.arange(6.0))
    assert auc.value == 1.0
    assert 0.3 < auc.low < 1.0


def test_one_class_gives_nan_not_a_number_that_looks_good() -> None:
    assert math.isnan(metrics.roc_auc(np.array([1, 1]), np.array([0.5, 0.6])).value)


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_matches_newcombe_1998(successes: int, n: int, low: float, high: float) -> None:
    share = metrics.proportion(successes, n)
    assert share.low == pytest.approx(low, abs=1e-4)
    assert share.high == pytest.approx(high, abs=1e-4)


def test_a_score_at_the_threshold_is_flagged() -> None:
    counts = metrics.confusion(np.array([1, 1, 0, 0]), np.array([0.5, 0.4, 0.5, 0.1]), 0.5)
    assert counts == (1, 1, 1, 1)
    rates = metrics.rates(counts)
    assert {name: rate.value for name, rate in rates.items()} == dict.fromkeys(rates, 0.5)


def test_no_negatives_leave_the_specificity_open() -> None:
    rates = metrics.rates(metrics.confusion(np.array([1, 1]), np.array([0.9, 0.2]), 0.5))
    assert rates["sensitivity"].value == 0.5
    assert math.isnan(rates["specificity"].value)


def test_brier_f1_and_calibration_error_by_hand() -> None:
    labels, p = np.array([1, 0, 1, 0]), np.array([0.9, 0.1, 0.65, 0.62])
    assert metrics.brier(labels, p).value == pytest.approx((0.01 + 0.01 + 0.1225 + 0.3844) / 4)
    assert metrics.f1(labels, p, 0.5).value == pytest.approx(4 / 5)  # 2 hits, 1 false alarm, none missed
    # bins: 0.9 -> gap 0.1; 0.1 -> gap 0.1; 0.6..0.7 -> |0.635 - 0.5| over two cases
    assert metrics.calibration_error(labels, p).value == pytest.approx((0.1 + 0.1 + 0.27) / 4)


def test_bootstrap_intervals_repeat_and_hold_the_value() -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 200)
    p = np.clip(labels * 0.5 + rng.random(200) * 0.5, 0, 1)
    once, twice = metrics.brier(labels, p), metrics.brier(labels, p)
    assert once == twice
    assert once.low < once.value < once.high


def test_roc_curve_rises_from_the_strictest_threshold() -> None:
    fpr, tpr, thresholds = metrics.roc_curve(np.array([0, 1, 0, 1]), np.array([0.1, 0.4, 0.35, 0.8]))
    assert thresholds.tolist() == [0.8, 0.4, 0.35, 0.1]
    assert tpr.tolist() == [0.5, 1.0, 1.0, 1.0]
    assert fpr.tolist() == [0.0, 0.0, 0.5, 1.0]


def test_predictive_values_follow_bayes_at_the_stated_prevalence() -> None:
    counts = metrics.Confusion(true_positive=90, false_negative=10, true_negative=160, false_positive=40)
    at = metrics.predictive_values(counts, 0.05)
    assert at["ppv"].value == pytest.approx(0.9 * 0.05 / (0.9 * 0.05 + 0.2 * 0.95))
    assert at["npv"].value == pytest.approx(0.8 * 0.95 / (0.8 * 0.95 + 0.1 * 0.05))
    # Mercaldo 2007: logit(PPV) +- z sqrt((1 - se) / (se n1) + sp / ((1 - sp) n0))
    centre, deviation = math.log(0.9 * 0.05 / (0.2 * 0.95)), math.sqrt(0.1 / 0.9 / 100 + 0.8 / 0.2 / 200)
    assert at["ppv"].low == pytest.approx(1 / (1 + math.exp(-(centre - metrics.Z95 * deviation))))
    at_own = metrics.predictive_values(counts, 100 / 300)
    assert at_own["ppv"].value == pytest.approx(metrics.rates(counts)["ppv"].value)


def test_perfect_rates_still_leave_doubt_about_predictive_values() -> None:
    at = metrics.predictive_values(metrics.Confusion(40, 0, 60, 0), 0.1)
    assert at["ppv"].value == at["npv"].value == 1.0
    assert 0.3 < at["ppv"].low < 0.6  # half a false alarm in 60 would already make it 0.92
    assert math.isnan(metrics.predictive_values(metrics.Confusion(0, 0, 3, 1), 0.1)["ppv"].value)


def test_average_precision_adds_up_the_steps_of_recall() -> None:
    # by falling score: sick, well, sick, well -> precision 1 at recall 1/2, 2/3 at recall 1
    labels, scores = np.array([1, 0, 1, 0]), np.array([0.9, 0.8, 0.7, 0.1])
    recall, precision, thresholds = metrics.precision_recall_curve(labels, scores)
    assert recall.tolist() == [0.5, 0.5, 1.0, 1.0]
    assert precision.tolist() == pytest.approx([1, 1 / 2, 2 / 3, 1 / 2])
    assert thresholds.tolist() == [0.9, 0.8, 0.7, 0.1]
    measured = metrics.average_precision(labels, scores)
    assert measured.value == pytest.approx((1 + 2 / 3) / 2)
    assert measured.low <= measured.value <= measured.high


def test_average_precision_without_sick_is_not_given() -> None:
    assert math.isnan(metrics.average_precision(np.zeros(3, np.int64), np.array([0.1, 0.2, 0.3])).value)


def test_the_bins_of_a_reliability_diagram_give_the_calibration_error() -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.uniform(0, 1, 200)
    probabilities[0] = 1.0
    labels = (rng.uniform(0, 1, 200) < probabilities**2).astype(np.int64)
    bins = metrics.reliability(labels, probabilities)
    assert sum(b.share.n for b in bins) == 200
    assert all(b.low <= b.mean_probability <= b.high for b in bins)
    gap = sum(b.share.n * abs(b.mean_probability - b.share.value) for b in bins) / 200
    assert gap == pytest.approx(metrics.calibration_error(labels, probabilities).value)
