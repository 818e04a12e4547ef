"""Thresholds that show a specificity or a sensitivity with 95 % assurance, from few images of a site."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from trainer.statistics.operating_point import read_rule, rule_in_words
from trainer.statistics.sample_size import assured_rank, fewest
from worker.errors import BadData


@pytest.mark.parametrize(
    ("target", "ranks", "least"), [(0.85, {50: 4, 100: 9, 200: 22}, 19), (0.90, {50: 2, 100: 5, 200: 13}, 29)]
)
def test_ranks_and_fewest_normals(target: float, ranks: dict[int, int], least: int) -> None:
    assert {n: assured_rank(n, target) for n in ranks} == ranks
    assert fewest(target) == least
    assert (assured_rank(least - 1, target), assured_rank(least, target)) == (0, 1)


def test_fifty_nine_positives_show_a_sensitivity_of_095() -> None:
    assert fewest(0.95) == 59
    assert (assured_rank(58, 0.95), assured_rank(59, 0.95)) == (0, 1)


@pytest.mark.parametrize("target", [0.85, 0.9])
def test_the_specificity_holds_in_19_of_20_draws_of_normals(target: float) -> None:
    rng = np.random.default_rng(1)
    rule = read_rule(f"target-specificity={target}")
    kept = []
    for _ in range(2000):
        scores = rng.uniform(0, 1, 100).astype(np.float32).astype(np.float64)  # their true share below t is t itself
        kept.append(rule.choose(np.zeros(100, np.int64), scores) >= target)
    assert 0.94 <= np.mean(kept) <= 0.985


def test_the_threshold_is_above_the_ranked_normal_and_no_higher_than_it_must() -> None:
    normals = np.linspace(0.01, 0.7, 50).astype(np.float32).astype(np.float64)
    labels, scores = np.array([0] * 50 + [1]), np.append(normals, 0.99)
    threshold = read_rule("target-specificity=0.85").choose(labels, scores)
    assert (normals >= threshold).sum() == 3
    assert 0 < threshold - normals[-4] <= 1e-4
    tied = np.append(np.full(50, np.float64(np.float32(0.25))), 0.99)
    assert read_rule("target-specificity=0.85").choose(labels, tied) > 0.25
    near_one = np.append(np.full(50, np.float64(np.float32(0.99997))), 1.0)
    threshold = read_rule("target-specificity=0.85").choose(labels, near_one)
    assert near_one[0] < threshold < 1.0, "rounded up it would flag only what is certain"
    with pytest.raises(BadData, match="certain of too many normals"):
        read_rule("target-specificity=0.85").choose(labels, np.ones(51))


def test_too_few_are_refused_with_the_number_needed() -> None:
    labels, scores = np.array([0] * 18 + [1]), np.linspace(0, 1, 19)
    with pytest.raises(BadData, match=r"18 normals cannot show specificity >= 0.85 .* at least 19"):
        read_rule("target-specificity=0.85").choose(labels, scores)
    with pytest.raises(BadData, match=r"1 positives cannot show sensitivity >= 0.95 .* at least 59"):
        read_rule("target-sensitivity").choose(labels, scores)


@pytest.mark.parametrize("text", ["target-specificity=0.9", "target-sensitivity=0.95"])
def test_the_words_on_a_card_name_the_rule(text: str) -> None:
    rule = read_rule(text)
    assert rule_in_words(str(rule)) == rule
    assert "95% assurance" in str(rule)


def test_the_page_says_what_calibration_gave_on_other_images() -> None:
    root = Path(__file__).parents[2]
    page = (root / "trainer" / "README.md").read_text(encoding="utf-8")
    found = json.loads((root / "tests" / "benchmarks" / "results" / "calibrate_external.json").read_text())
    for rule in ("target-specificity=0.85", "target-sensitivity=0.95"):
        (row,) = re.findall(rf"^\| `{re.escape(rule)}`.*$", page, re.MULTILINE)
        told = [found[rule][part][name] for part in ("choose", "final") for name in ("sensitivity", "specificity")]
        assert re.findall(r"(\S+) \[(\S+), (\S+)\]", row) == [
            tuple(f"{each[name]:.3f}" for name in ("value", "low", "high")) for each in told
        ]
    assert found["target-specificity=0.85"]["final"]["specificity"]["value"] >= 0.85
    assert found["target-sensitivity=0.95"]["final"]["sensitivity"]["value"] >= 0.95
