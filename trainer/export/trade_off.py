"""The results of different thresholds on the images of a site: pneumonias found, and normals left alone."""

from dataclasses import dataclass

from trainer.statistics import metrics
from trainer.statistics.metrics import Confusion, Labels, Scores
from trainer.statistics.operating_point import at_sensitivity

#: Sensitivities on the site's images whose thresholds are shown beside the chosen one.
TARGETS = (1.0, 0.99, 0.98, 0.97, 0.95, 0.9)


@dataclass(frozen=True)
class Choice:
    """One threshold, on the site's probabilities, and its result on the site's images."""

    name: str
    threshold: float
    found: int
    positives: int
    left_alone: int
    normals: int

    def __str__(self) -> str:
        """A text for people."""
        return (
            f"at {self.threshold:.4f}: {self.found} of {self.positives} found,"
            f" {self.left_alone} of {self.normals} normals left alone"
        )


def choices(labels: Labels, probabilities: Scores, factory: Choice, threshold: float) -> tuple[Choice, ...]:
    """The factory's threshold, the chosen one, and those that keep each of TARGETS, the lowest first."""
    by_threshold = {at_sensitivity(labels, probabilities, target): target for target in reversed(TARGETS)}
    others = tuple(
        choice(f"sensitivity {target:g} here", value, metrics.confusion(labels, probabilities, value))
        for value, target in sorted(by_threshold.items())
    )
    return (factory, choice("chosen", threshold, metrics.confusion(labels, probabilities, threshold)), *others)


def choice(name: str, threshold: float, counts: Confusion) -> Choice:
    """One threshold, with the counts that it gave."""
    found, missed, left_alone, flagged = counts
    return Choice(name, threshold, found, found + missed, left_alone, left_alone + flagged)
