"""DeLong's paired test and the paired bootstrap give what they should; the margin holds what it says."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from trainer.statistics.metrics import roc_auc
from trainer.statistics.paired import auc_difference, rate_difference
from worker.inference.estimate import Estimate
from worker.registry.comparison import Change, ComparedModel, Comparison, Flips
from worker.registry.non_inferiority import ENOUGH_POSITIVES, judge, missed_more


def cases(count: int, seed: int) -> tuple[Any, Any, Any]:
    """Labels, an old score, and a new one that shares most of its noise."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(count) < 0.6).astype(np.int64)
    noise = rng.normal(0, 1, count)
    return labels, labels + noise, labels * 1.1 + noise + rng.normal(0, 0.3, count)


def test_the_paired_test_agrees_with_its_definition_by_pairs() -> None:
    labels, old, new = cases(60, 1)
    old[:10] = np.round(old[:10])  # ties
    difference, p_value = auc_difference(labels, old, new)
    wins = {}
    for name, scores in (("old", old), ("new", new)):
        positives, negatives = scores[labels == 1][:, None], scores[labels == 0][None]
        wins[name] = (positives > negatives) + 0.5 * (positives == negatives)
    delta = wins["new"] - wins["old"]
    variance = delta.mean(axis=1).var(ddof=1) / delta.shape[0] + delta.mean(axis=0).var(ddof=1) / delta.shape[1]
    assert difference.value == pytest.approx(delta.mean())
    assert difference.high - difference.low == pytest.approx(2 * 1.959964 * np.sqrt(variance), rel=1e-5)
    assert difference.value == pytest.approx(roc_auc(labels, new).value - roc_auc(labels, old).value)
    assert (p_value < 0.05) == (difference.low > 0 or difference.high < 0)


def test_the_paired_test_is_calibrated_under_no_difference() -> None:
    """Two scores of one quality and shared noise: about 1 in 20 comparisons falls below p = 0.05."""
    rng = np.random.default_rng(2)
    labels = np.repeat([0, 1], 60)
    p_values = []
    for _ in range(400):
        shared = labels + rng.normal(0, 1, 120)
        p_values.append(auc_difference(labels, shared + rng.normal(0, 0.5, 120), shared + rng.normal(0, 0.5, 120))[1])
    assert 0.02 < np.mean(np.array(p_values) < 0.05) < 0.09


def test_one_score_twice_differs_by_nothing_and_one_class_is_refused() -> None:
    labels, old, _ = cases(40, 3)
    assert auc_difference(labels, old, old) == ((0.0, 0.0, 0.0), 1.0)
    with pytest.raises(ValueError, match="at least two of each class"):
        auc_difference(np.ones(40, np.int64), old, old)


def test_patients_are_drawn_whole() -> None:
    """Ten images of one patient tell as much as one: the interval is as wide as that of the patients."""
    was, is_now = np.array([True] * 30), np.array([False] * 3 + [True] * 27)
    one_each = rate_difference(was, is_now, np.arange(30))
    ten_each = rate_difference(np.repeat(was, 10), np.repeat(is_now, 10), np.repeat(np.arange(30), 10))
    torn = rate_difference(np.repeat(was, 10), np.repeat(is_now, 10), np.arange(300))
    assert one_each.value == ten_each.value == pytest.approx(-0.1)
    assert ten_each == pytest.approx(one_each)
    assert torn.high - torn.low < 0.5 * (ten_each.high - ten_each.low)
    assert one_each.low == pytest.approx(-0.1 - 1.96 * np.sqrt(0.09 / 30), abs=0.035)
    assert rate_difference(was, is_now, np.arange(30)) == one_each, "the seed is fixed"


def compared(positives: int = 400, negatives: int = 400, **changes: Any) -> Comparison:
    half = Estimate(0.5, 0.4, 0.6, 10)
    side = ComparedModel("a" * 64, "old", 0.5, half, half, half)
    still = Change(0.0, 0.0, 0.0)
    plain = Comparison(
        old=side, new=replace(side, digest="b" * 64), provider="CPUExecutionProvider", data_digest="c" * 64,
        n=positives + negatives, positives=positives, patients=10, unreadable=0, auc=still, auc_p_value=1.0,
        sensitivity=still, specificity=still, positive_flips=Flips(0, 0),
        negative_flips=Flips(0, 0), flips=(), method="", created_at="",
    )  # fmt: skip
    return replace(plain, **changes)


def test_what_the_field_let_through_is_refused() -> None:
    """14 images, AUC 0.959 -> 0.898: no single positive was lost at the threshold."""
    judgement = judge(compared(7, 7, auc=Change(-0.061, -0.2, 0.1)))
    assert not judgement.holds
    assert judgement.broken == ("auc",)
    assert judgement.says.startswith("7 positives and 7 negatives are too few to judge a model")


@pytest.mark.parametrize(("measure", "margin"), [("auc", 0.01), ("sensitivity", 0.01), ("specificity", 0.05)])
def test_each_measure_has_its_margin_held_against_the_bound_where_there_are_enough_positives(
    measure: str, margin: float
) -> None:
    beyond = margin + 0.001
    for positives, change, holds, held in (
        (ENOUGH_POSITIVES, Change(0.0, -margin, 0.0), True, "the interval's lower bound"),
        (ENOUGH_POSITIVES, Change(0.0, -beyond, 0.0), False, "the interval's lower bound"),
        (ENOUGH_POSITIVES - 1, Change(-margin, -beyond, 0.0), True, "the point difference"),
        (ENOUGH_POSITIVES - 1, Change(-beyond, -0.5, 0.0), False, "the point difference"),
    ):
        changed: dict[str, Any] = {measure: change}
        judgement = judge(compared(positives, **changed))
        assert judgement.holds is holds
        assert judgement.broken == (() if holds else (measure,))
        assert f", {held} is compared with each margin" in judgement.says
        outcome = "holds" if holds else "BREAKS"
        assert f"{measure} {change.value:+.4f}" in judgement.says
        assert judgement.says.count(f"{outcome} its margin of -{margin:g}") > 0


@pytest.mark.parametrize(("positives", "negatives", "holds"), [(100, 100, True), (99, 900, False), (900, 99, False)])
def test_a_hundred_of_each_class_are_needed(positives: int, negatives: int, holds: bool) -> None:
    judgement = judge(compared(positives, negatives))
    assert judgement.holds is holds
    assert not judgement.lowers_only_sensitivity


def test_a_lower_sensitivity_is_told_in_patients() -> None:
    worse = compared(sensitivity=Change(-0.0125, -0.02, 0.0))
    assert judge(worse).lowers_only_sensitivity
    assert missed_more(worse) == "13 more of 1,000 pneumonias not flagged (by the interval: up to 20)"
    both = compared(sensitivity=Change(-0.0125, -0.02, 0.0), auc=Change(-0.1, -0.1, -0.1))
    assert not judge(both).lowers_only_sensitivity


def test_enough_positives_are_those_whose_interval_can_lie_inside_the_margin() -> None:
    """Tango's interval for a paired difference without discordant pairs reaches down to -z²/(n + z²)."""
    z2 = 1.959964**2
    assert z2 / (ENOUGH_POSITIVES + z2) <= 0.01 < z2 / (ENOUGH_POSITIVES - 1 + z2)


def test_a_comparison_survives_its_file() -> None:
    one = compared(100, sensitivity=Change(-0.01, -0.04, 0.0))
    assert Comparison.from_json(one.to_json()) == one
