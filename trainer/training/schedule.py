"""Which epoch comes next. Depends only on phases and scores so far, so a resumed fit gets the same answer.

Pure. Higher scores are better.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from trainer.recipes.recipe import Phase


@dataclass(frozen=True)
class Step:
    """One epoch to run; both epochs count from 0."""

    epoch: int  #: over all phases
    phase: Phase
    epoch_in_phase: int
    learning_rate: float  #: at its start; in a cosine phase Keras changes it with every step


def next_step(phases: Sequence[Phase], scores: Sequence[float]) -> Step | None:
    """The epoch after those that gave `scores`, or None when every phase has run or was stopped early."""
    done = 0
    for phase in phases:
        own = scores[done : done + phase.epochs]
        length = _length(phase, own)
        if len(own) == length < phase.epochs and not _is_stale(phase, own):
            return Step(len(scores), phase, len(own), _learning_rate(phase, own))
        done += length
    return None


def _length(phase: Phase, scores: Sequence[float]) -> int:
    """How many of `scores` belong to the phase: those up to the epoch that ended it."""
    return next((n for n in range(1, len(scores)) if _is_stale(phase, scores[:n])), len(scores))


def _is_stale(phase: Phase, scores: Sequence[float]) -> bool:
    return phase.patience is not None and _epochs_since_best(scores) >= phase.patience


def _epochs_since_best(scores: Sequence[float]) -> int:
    return len(scores) - 1 - scores.index(max(scores)) if scores else 0


def _learning_rate(phase: Phase, scores: Sequence[float]) -> float:
    """The rate after these scores: lower after each `patience` epochs of the plateau without a better score."""
    rate = phase.learning_rate
    if phase.plateau is None:
        return rate
    best, waited = float("-inf"), 0
    for score in scores:
        waited = 0 if score > best else waited + 1
        best = max(best, score)
        if waited == phase.plateau.patience:
            rate, waited = max(rate * phase.plateau.factor, phase.plateau.lowest), 0
    return rate
