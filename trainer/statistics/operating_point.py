"""The calibration of logits, and the threshold chosen by a named rule. numpy only.

`labels` are 0 and 1, `logits` any real numbers, `probabilities` lie in [0, 1]; all one-dimensional, of one length.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainer.statistics.sample_size import ASSURANCE, assured_rank, fewest
from worker.errors import BadData, BadSetting

Labels = NDArray[np.int64]
Scores = NDArray[np.float64]

#: Largest number of steps of Newton's method; the loss is convex in two unknowns, and ten are enough.
NEWTON_STEPS = 50
#: Ridge penalty, so that a separable validation split has a finite slope.
RIDGE = 1e-3

#: The threshold is rounded down to this number of decimals, so that a person can quote it exactly.
THRESHOLD_DECIMALS = 4


class Calibration(NamedTuple):
    """probability = sigmoid(logit / temperature + bias); the bias removes the prior of balanced batches."""

    temperature: float
    bias: float

    def at(self, prevalence: float, calibrated: float) -> "Calibration":
        """For another share of sick images than the `calibrated` one; both strictly between 0 and 1 (Saerens 2002)."""
        shift = np.log(prevalence / (1 - prevalence)) - np.log(calibrated / (1 - calibrated))
        return Calibration(self.temperature, self.bias + float(shift))


def smoothed(labels: Labels) -> Scores:
    """The labels as Platt's targets (1999), so that a few well separated cases give no certainty."""
    positives, negatives = int((labels == 1).sum()), int((labels == 0).sum())
    return np.where(labels == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))


def calibrate(labels: Labels | Scores, logits: Scores) -> Calibration:
    """Temperature and bias that minimise the negative log likelihood (Platt 1999; Guo 2017 for the temperature).

    By Newton's method on a logistic regression of one slope and one bias. A ridge penalty (RIDGE) draws both towards
    an unchanged logit, since without it the slope of separable classes is infinite. The probabilities hold at the
    prevalence of these labels, which may be shares (`smoothed`). Raises ValueError when a class is missing, or when
    higher logits do not mean more positives.
    """
    if len(np.unique(labels)) < 2:
        raise ValueError("calibration needs both classes")
    unchanged = np.array([1.0, 0.0])  # slope, bias
    line = unchanged
    design = np.stack([logits, np.ones_like(logits)], axis=1)

    def loss(at: Scores) -> float:
        scaled = design @ at
        return float((np.logaddexp(0, scaled) - labels * scaled).sum() + RIDGE / 2 * ((at - unchanged) ** 2).sum())

    for _ in range(NEWTON_STEPS):
        p = 0.5 * (1 + np.tanh(design @ line / 2))
        gradient = design.T @ (p - labels) + RIDGE * (line - unchanged)
        hessian = (design * (p * (1 - p))[:, None]).T @ design + RIDGE * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        while loss(line - step) > loss(line) and np.abs(step).max() > 1e-12:
            step /= 2  # far from the minimum, Newton overshoots
        line = line - step
        if np.abs(step).max() < 1e-10:
            break
    slope, bias = (float(value) for value in line)
    if slope <= 0:
        raise ValueError("higher scores do not mean more positives: this network has learnt nothing")
    return Calibration(1 / slope, bias)


def apply_calibration(logits: Scores, calibration: Calibration) -> Scores:
    """Calibrated probabilities of logits."""
    scaled = np.asarray(logits, np.float64) / calibration.temperature + calibration.bias
    return np.asarray(0.5 * (1 + np.tanh(scaled / 2)), np.float64)


class ThresholdRule(NamedTuple):
    """How a threshold is chosen: a name of RULES and its number, if it takes one."""

    name: str
    value: float | None = None

    def __str__(self) -> str:
        return RULES[self.name].words.format(self.value)

    def choose(self, labels: Labels, probabilities: Scores) -> float:
        """The threshold on these images; a probability equal to it is flagged. Raises ValueError on a missing class."""
        rule = RULES[self.name]
        return rule.choose(labels, probabilities, self.value if self.value is not None else rule.default)


#: A missed pneumonia is worse than a false alarm, so the rule fixes the sensitivity.
DEFAULT_RULE = ThresholdRule("sensitivity", 0.985)


def read_rule(text: str) -> ThresholdRule:
    """`NAME` or `NAME=NUMBER`, such as `sensitivity=0.985`; raises BadSetting with the names there are."""
    name, _, number = text.partition("=")
    rule = RULES.get(name)
    if rule is None:
        raise BadSetting(f"no threshold rule {name!r}: choose one of {', '.join(RULES)}")
    if not number:
        return ThresholdRule(name, rule.default if rule.takes_number else None)
    try:
        value = float(number)
    except ValueError:
        value = float("nan")
    if not rule.takes_number or not rule.low < value < rule.high:
        wanted = f"a number between {rule.low:g} and {rule.high:g}" if rule.takes_number else "no number"
        raise BadSetting(f"threshold rule {name!r} takes {wanted}, not {number!r}")
    return ThresholdRule(name, value)


#: In the words of a card, between the rule on the validation images and the rule on images of another place.
AND_ELSEWHERE = "; and on images of elsewhere: "


def rule_in_words(words: str) -> ThresholdRule:
    """The rule in the words of a card; raises BadSetting when they are of none of RULES."""
    for name, rule in RULES.items():
        before, _, after = rule.words.partition("{}")
        number = words.removeprefix(before).removesuffix(after)
        with suppress(ValueError):  # other words: the rest is not a number
            said = ThresholdRule(name, float(number) if rule.takes_number else None)
            if str(said) == words:
                return said
    raise BadSetting(f"unknown words for a threshold rule {words!r}: name one of {', '.join(RULES)}")


def rules_in_words(words: str) -> tuple[ThresholdRule, ThresholdRule | None]:
    """The rules on validation images and on images of elsewhere, if any; raises BadSetting as `rule_in_words` does."""
    own, _, elsewhere = words.partition(AND_ELSEWHERE)
    return rule_in_words(own), rule_in_words(elsewhere) if elsewhere else None


def at_sensitivity(labels: Labels, probabilities: Scores, target: float) -> float:
    """The highest threshold, rounded down to THRESHOLD_DECIMALS, that flags at least `target` of the positives.

    A probability equal to the threshold is flagged. Raises ValueError without positives.
    """
    positives = np.sort(probabilities[labels == 1])
    if not len(positives):
        raise ValueError("a threshold by sensitivity needs positives")
    missed = int(np.floor((1 - target) * len(positives) + 1e-9))
    return _quotable(positives[missed])


def at_specificity(labels: Labels, probabilities: Scores, target: float) -> float:
    """The lowest threshold, rounded up to THRESHOLD_DECIMALS, that leaves at least `target` of the negatives unflagged.

    Raises ValueError without negatives.
    """
    negatives = np.sort(probabilities[labels == 0])
    if not len(negatives):
        raise ValueError("a threshold by specificity needs negatives")
    spared = int(np.ceil(target * len(negatives) - 1e-9))
    step = 10.0**THRESHOLD_DECIMALS
    # strictly above the last negative that must not be flagged
    return float((np.floor(negatives[spared - 1] * step) + 1) / step)


def at_assured_sensitivity(labels: Labels, probabilities: Scores, target: float) -> float:
    """The highest threshold, rounded down, whose true sensitivity is at least `target` with ASSURANCE.

    That is the r-th smallest score of the positives (`assured_rank`). Raises BadData when they are too few.
    """
    positives = np.sort(probabilities[labels == 1])
    return _quotable(positives[_assured(len(positives), target, "positives", "sensitivity") - 1])


def at_assured_specificity(labels: Labels, probabilities: Scores, target: float) -> float:
    """The lowest threshold whose true specificity is at least `target` with ASSURANCE.

    That is the next representable value above the r-th largest score of the negatives (`assured_rank`), rounded up to
    THRESHOLD_DECIMALS unless it would then be 1. Raises BadData when they are too few, or when that score is 1.
    """
    negatives = np.sort(probabilities[labels == 0])[::-1]
    highest = float(negatives[_assured(len(negatives), target, "normals", "specificity") - 1])
    above = float(np.nextafter(np.float32(highest), np.float32(2)))
    if above > 1:
        raise BadData(f"no threshold keeps specificity {target:g}: the model is certain of too many normals")
    step = 10.0**THRESHOLD_DECIMALS
    rounded = float(np.ceil(above * step) / step)
    return rounded if rounded < 1 else above


def _assured(n: int, target: float, cases: str, measure: str) -> int:
    rank = assured_rank(n, target)
    if not rank:
        raise BadData(
            f"{n} {cases} cannot show {measure} >= {target:g} with {ASSURANCE:.0%} assurance: at least {fewest(target)}"
            " are needed"
        )
    return rank


def at_youden(labels: Labels, probabilities: Scores) -> float:
    """The threshold with the largest sensitivity + specificity - 1 (Youden 1950); the highest of equals.

    Rounded down to THRESHOLD_DECIMALS.
    """
    candidates, sensitivity, specificity = _operating_curve(labels, probabilities)
    return _quotable(candidates[int(np.argmax(sensitivity + specificity))])


def at_cost(labels: Labels, probabilities: Scores, ratio: float) -> float:
    """The threshold of least cost where a missed pneumonia costs `ratio` false alarms; the highest of equals.

    At the prevalence of `labels`; may be above every probability, when flags cost more than they save.
    """
    candidates, sensitivity, specificity = _operating_curve(labels, probabilities)
    n_positive = int((labels == 1).sum())
    cost = ratio * (1 - sensitivity) * n_positive + (1 - specificity) * (len(labels) - n_positive)
    if ratio * n_positive <= cost.min():
        return 1.0
    return _quotable(candidates[int(np.argmin(cost))])


def _quotable(threshold: float) -> float:
    """Rounded down to THRESHOLD_DECIMALS, so every flagged image stays flagged."""
    step = 10.0**THRESHOLD_DECIMALS
    return min(float(threshold), float(np.floor(threshold * step + 1e-9) / step))


def _operating_curve(labels: Labels, probabilities: Scores) -> tuple[Scores, Scores, Scores]:
    """(thresholds, falling through the distinct probabilities; sensitivity; specificity)."""
    candidates = np.unique(probabilities)[::-1]
    positives, negatives = np.sort(probabilities[labels == 1]), np.sort(probabilities[labels == 0])
    if not len(positives) or not len(negatives):
        raise ValueError("this threshold rule needs both classes")
    sensitivity = 1 - np.searchsorted(positives, candidates, "left") / len(positives)
    specificity = np.searchsorted(negatives, candidates, "left") / len(negatives)
    return candidates, sensitivity, specificity


class Rule(NamedTuple):
    """One row of RULES: a number must lie strictly between `low` and `high`."""

    words: str  #: for the card
    choose: Callable[[Labels, Scores, float], float]
    takes_number: bool = True
    default: float = 0.0
    low: float = 0.0
    high: float = 1.0


RULES = {
    "sensitivity": Rule("highest threshold with validation sensitivity >= {}", at_sensitivity, default=0.985),
    "specificity": Rule("lowest threshold with validation specificity >= {}", at_specificity, default=0.90),
    "youden": Rule("largest Youden's J on validation", lambda y, p, _: at_youden(y, p), takes_number=False),
    "fixed": Rule("fixed at {}", lambda _y, _p, value: value, default=0.5),
    "cost": Rule("least cost on validation, a miss costing {} false alarms", at_cost, default=10.0, high=float("inf")),
    "target-sensitivity": Rule(
        f"highest threshold with sensitivity >= {{}} at {ASSURANCE:.0%} assurance", at_assured_sensitivity, default=0.95
    ),
    "target-specificity": Rule(
        f"lowest threshold with specificity >= {{}} at {ASSURANCE:.0%} assurance", at_assured_specificity, default=0.85
    ),
}
