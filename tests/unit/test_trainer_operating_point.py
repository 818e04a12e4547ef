"""Thresholds by rule, and calibrated probabilities."""

import numpy as np
import pytest

from trainer.statistics.metrics import calibration_error
from trainer.statistics.operating_point import (
    AND_ELSEWHERE,
    Calibration,
    apply_calibration,
    at_sensitivity,
    at_youden,
    calibrate,
    read_rule,
    rule_in_words,
)
from worker.errors import BadSetting


def test_the_threshold_is_the_highest_that_keeps_the_sensitivity() -> None:
    labels = np.array([1] * 200 + [0] * 50)
    p = np.concatenate([np.linspace(0.2, 0.995, 200), np.linspace(0.0, 0.5, 50)])
    threshold = at_sensitivity(labels, p, 0.985)
    positives = p[:200]
    assert (positives >= threshold).mean() == pytest.approx(0.985)  # three of 200 may be missed, and are
    assert (positives >= threshold + 2e-4).mean() < 0.985


def test_no_positive_may_be_missed_where_they_are_few() -> None:
    labels, p = np.array([1, 1, 1, 0]), np.array([0.91234, 0.5, 0.7, 0.1])
    assert at_sensitivity(labels, p, 0.985) == 0.5


def test_tied_positives_are_all_flagged() -> None:
    labels, p = np.array([1] * 10), np.array([0.333333] * 10)
    assert at_sensitivity(labels, p, 0.5) <= 0.333333


def test_youden_takes_the_best_cut() -> None:
    labels, p = np.array([0, 0, 0, 1, 1, 1]), np.array([0.1, 0.2, 0.6, 0.5, 0.7, 0.9])
    assert at_youden(labels, p) in (0.5, 0.7)
    assert at_youden(np.array([0, 1]), np.array([0.2, 0.6])) == 0.6


def test_calibration_recovers_temperature_and_bias() -> None:
    rng = np.random.default_rng(3)
    true = rng.normal(0.5, 2.0, 20_000)
    labels = (rng.random(20_000) < 1 / (1 + np.exp(-true))).astype(np.int64)
    found = calibrate(labels, (true - 1.5) * 3.0)  # an overconfident network under another prior
    assert found.temperature == pytest.approx(3.0, rel=0.05)
    assert found.bias == pytest.approx(1.5, abs=0.1)


def test_calibration_brings_the_mean_probability_to_the_prevalence() -> None:
    rng = np.random.default_rng(4)
    labels = (rng.random(3_000) < 0.74).astype(np.int64)
    logits = rng.normal(0, 1, 3_000) + 3 * labels - 1.5  # as balanced batches leave them
    p = apply_calibration(logits, calibrate(labels, logits))
    assert p.mean() == pytest.approx(labels.mean(), abs=0.005)
    assert calibration_error(labels, p).value < 0.03


def test_separable_scores_do_not_run_away() -> None:
    found = calibrate(np.array([0] * 20 + [1] * 20), np.concatenate([np.full(20, -3.0), np.full(20, 3.0)]))
    assert np.isfinite(found.temperature)
    assert 0 < found.temperature < 1.5


def test_scores_against_the_labels_are_refused() -> None:
    with pytest.raises(ValueError, match="learnt nothing"):
        calibrate(np.array([1] * 50 + [0] * 50), np.linspace(-2, 2, 100))


def test_extreme_logits_neither_overflow_nor_lose_their_order() -> None:
    p = apply_calibration(np.array([-2000.0, 0.0, 2000.0]), Calibration(1.0, 0.0))
    assert p.tolist() == [0.0, 0.5, 1.0]


#: Five negatives and five positives, one of each on the wrong side.
LABELS = np.array([0, 0, 0, 0, 1, 0, 1, 1, 1, 1])
P = np.array([0.05, 0.1, 0.2, 0.3, 0.35, 0.6, 0.7, 0.8, 0.9, 0.95])


@pytest.mark.parametrize(
    ("rule", "threshold", "flagged"),
    [
        ("sensitivity=0.985", 0.35, [0.35, 0.6, 0.7, 0.8, 0.9, 0.95]),
        ("sensitivity=0.8", 0.7, [0.7, 0.8, 0.9, 0.95]),
        ("specificity=0.8", 0.3001, [0.35, 0.6, 0.7, 0.8, 0.9, 0.95]),
        ("specificity=0.9", 0.6001, [0.7, 0.8, 0.9, 0.95]),
        ("youden", 0.7, [0.7, 0.8, 0.9, 0.95]),  # 4/5 + 5/5; at 0.35 it is 5/5 + 4/5, the highest of equals wins
        ("fixed=0.65", 0.65, [0.7, 0.8, 0.9, 0.95]),
        ("cost=0.5", 0.7, [0.7, 0.8, 0.9, 0.95]),  # one miss at 0.5 is cheaper than one false alarm at 1
        ("cost=10", 0.35, [0.35, 0.6, 0.7, 0.8, 0.9, 0.95]),
    ],
)
def test_each_rule_chooses_by_its_own_measure(rule: str, threshold: float, flagged: list[float]) -> None:
    chosen = read_rule(rule).choose(LABELS, P)
    assert chosen == pytest.approx(threshold)
    assert P[chosen <= P].tolist() == flagged


def test_specificity_holds_with_tied_negatives() -> None:
    labels, p = np.array([0] * 9 + [1]), np.array([0.25] * 5 + [0.5] * 4 + [0.9])
    chosen = read_rule("specificity=0.6").choose(labels, p)
    assert (p[labels == 0] < chosen).mean() >= 0.6
    assert chosen == pytest.approx(0.5001)


def test_where_a_false_alarm_costs_more_than_any_miss_nothing_is_flagged() -> None:
    labels, p = np.array([0, 0, 0, 1]), np.array([0.2, 0.5, 0.9, 0.6])
    assert (p >= read_rule("cost=0.01").choose(labels, p)).sum() == 0


def test_a_rule_says_in_words_what_it_did() -> None:
    assert str(read_rule("sensitivity")) == "highest threshold with validation sensitivity >= 0.985"
    assert str(read_rule("youden")) == "largest Youden's J on validation"
    assert "costing 20.0 false alarms" in str(read_rule("cost=20"))


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("best", "sensitivity, specificity, youden, fixed, cost"),
        ("sensitivity=98", "between 0 and 1"),
        ("fixed=x", "between 0 and 1"),
        ("youden=0.5", "takes no number"),
        ("cost=-1", "between 0 and inf"),
    ],
)
def test_a_wrong_rule_is_answered_with_the_right_ones(text: str, remedy: str) -> None:
    with pytest.raises(BadSetting, match=remedy):
        read_rule(text)


@pytest.mark.parametrize("rule", ["sensitivity=0.9", "specificity=0.9", "youden", "cost=3"])
def test_a_chosen_threshold_can_be_quoted_in_four_decimals(rule: str) -> None:
    rng = np.random.default_rng(5)
    labels = rng.integers(0, 2, 400)
    p = np.clip(labels * 0.3 + rng.random(400) * 0.7, 0, 1)
    chosen = read_rule(rule).choose(labels, p)
    assert chosen == round(chosen, 4)


@pytest.mark.parametrize("text", ["sensitivity=0.985", "specificity=0.9", "youden", "fixed=0.2978", "cost=10"])
def test_a_rule_is_known_again_by_the_words_on_a_card(text: str) -> None:
    assert rule_in_words(str(read_rule(text))) == read_rule(text)


def test_words_of_no_rule_are_refused() -> None:
    with pytest.raises(BadSetting, match="unknown words for a threshold rule 'by eye'"):
        rule_in_words("by eye")


def test_a_calibration_for_another_prevalence_shifts_the_odds_alone() -> None:
    logits = np.linspace(-4, 4, 9)
    before = Calibration(1.7, 0.3)
    before_odds, odds = (p / (1 - p) for p in (apply_calibration(logits, c) for c in (before, before.at(0.5, 0.8))))
    np.testing.assert_allclose(odds, before_odds / 4)  # 0.8 are odds of four to one


def test_a_rule_for_two_places_is_not_taken_for_the_rule_of_one() -> None:
    rule = read_rule("sensitivity=0.98")
    with pytest.raises(BadSetting, match="name one of"):
        rule_in_words(f"{rule}{AND_ELSEWHERE}{rule}")
