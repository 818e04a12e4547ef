"""Where scores become decisions: the calibration of logits, and the threshold by a named rule. numpy only.

`labels` are 0 and 1, `logits` any real numbers, `probabilities` lie in [0, 1]; all one-dimensional, of one length.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.int64]
Scores = NDArray[np.float64]

#: Steps of Newton's method; the loss is convex in two unknowns, and ten are plenty.
NEWTON_STEPS = 50
#: Keeps a separable validation split from asking for an infinite slope.
RIDGE = 1e-3

#: The threshold is rounded down to so many decimals, so that the card and a person can quote it.
THRESHOLD_DECIMALS = 4


class Calibration(NamedTuple):
    """probability = sigmoid(logit / temperature + bias); the bias takes out the prior of balanced batches."""

    temperature: float
    bias: float


def calibrate(labels: Labels, logits: Scores) -> Calibration:
    """Temperature and bias that minimise the negative log likelihood (Platt 1999; Guo 2017 for the temperature).

    The labels must come at the prevalence that the probabilities shall mean. Raises ValueError when a class is absent
    or when the scores run against the labels.
    """
    if len(np.unique(labels)) < 2:
        raise ValueError("calibration needs both classes")
    line = np.array([1.0, 0.0])  # slope, bias
    start = line.copy()
    design = np.stack([logits, np.ones_like(logits)], axis=1)

    def loss(at: Scores) -> float:
        scaled = design @ at
        return float((np.logaddexp(0, scaled) - labels * scaled).sum() + RIDGE / 2 * ((at - start) ** 2).sum())

    for _ in range(NEWTON_STEPS):
        p = 0.5 * (1 + np.tanh(design @ line / 2))
        gradient = design.T @ (p - labels) + RIDGE * (line - start)
        hessian = (design * (p * (1 - p))[:, None]).T @ design + RIDGE * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        while loss(line - step) > loss(line) and np.abs(step).max() > 1e-12:
            step /= 2  # far from the minimum, Newton overshoots
        line = line - step
        if np.abs(step).max() < 1e-10:
            break
    slope, bias = (float(value) for value in line)
    if slope <= 0:
        raise ValueError("the scores run against the labels: this network has learnt nothing")
    return Calibration(1 / slope, bias)


def apply_calibration(logits: Scores, calibration: Calibration) -> Scores:
    """Calibrated probabilities of logits."""
    scaled = np.asarray(logits, np.float64) / calibration.temperature + calibration.bias
    return np.asarray(0.5 * (1 + np.tanh(scaled / 2)), np.float64)


def correct_prior(probabilities: Scores, trained: float, actual: float) -> Scores:
    """Probabilities under a share `actual` of positives, from a model trained under a share `trained` (Saerens 2002).

    Both shares lie strictly between 0 and 1.
    """
    odds = probabilities / np.clip(1 - probabilities, 1e-12, None) * (actual / (1 - actual)) * ((1 - trained) / trained)
    return np.asarray(odds / (1 + odds), np.float64)


def at_sensitivity(labels: Labels, probabilities: Scores, target: float) -> float:
    """The highest threshold, rounded down to THRESHOLD_DECIMALS, that flags at least `target` of the positives.

    A probability equal to the threshold is flagged. Raises ValueError without positives.
    """
    positives = np.sort(probabilities[labels == 1])
    if not len(positives):
        raise ValueError("a threshold by sensitivity needs positives")
    missed = int(np.floor((1 - target) * len(positives) + 1e-9))
    step = 10.0**THRESHOLD_DECIMALS
    return float(np.floor(positives[missed] * step) / step)


def at_youden(labels: Labels, probabilities: Scores) -> float:
    """The threshold with the largest sensitivity + specificity - 1 (Youden 1950); the highest of equals."""
    candidates = np.unique(probabilities)[::-1]
    positives, negatives = np.sort(probabilities[labels == 1]), np.sort(probabilities[labels == 0])
    if not len(positives) or not len(negatives):
        raise ValueError("Youden's J needs both classes")
    sensitivity = 1 - np.searchsorted(positives, candidates, "left") / len(positives)
    specificity = np.searchsorted(negatives, candidates, "left") / len(negatives)
    return float(candidates[int(np.argmax(sensitivity + specificity))])
