"""Non-inferiority: how much worse a new model may be in each measure, and whether a comparison stays within that.

Pure: knows the comparison, no file and no database.
"""

import math
from dataclasses import dataclass

from worker.registry.comparison import ROUNDING, Change, Comparison

#: How much lower the new model may be than the old one. A lower AUC or sensitivity means missed pneumonias; a lower
#: specificity costs readers' time.
MARGINS = {"auc": 0.01, "sensitivity": 0.01, "specificity": 0.05}

#: Lowest sensitivity of a point that a site sets for the same weights, unless somebody accepts a lower one.
SENSITIVITY_FLOOR = 0.95

#: Fewest images of each class. With fewer, single images would decide the point difference.
FEWEST_IMAGES = 100

#: With this many positives or more, the lower bound is compared with the margin; with fewer, the point difference,
#: because their lower bound would break the margin even if no positive were lost. Without any discordant pair, Tango's
#: interval (1998) for a paired difference of shares reaches down to -z²/(n + z²); at z = 1.96 and n = 381: -0.00998.
ENOUGH_POSITIVES = 381


@dataclass(frozen=True)
class Judgement:
    """The result of a comparison for the new model."""

    lacks: str  #: a text when there are too few images for a judgement; else empty
    broken: tuple[str, ...]  #: the measures whose margin is broken
    says: str  #: a text with each measure, the number compared with its margin, and whether it holds

    @property
    def holds(self) -> bool:
        """Whether the new model may serve."""
        return not self.lacks and not self.broken

    @property
    def lowers_only_sensitivity(self) -> bool:
        """Whether the lower sensitivity is the only reason against it."""
        return not self.lacks and self.broken == ("sensitivity",)


def judge(comparison: Comparison) -> Judgement:
    """Compare each change with its margin: its interval's lower bound, or with few positives the point difference.

    Two points of the same weights order all images the same, so there is no AUC to judge and no number of images that
    would be needed for it; the sensitivity may fall as far as SENSITIVITY_FLOOR.
    """
    if comparison.same_weights:
        return _judge_point(comparison)
    positives, negatives = comparison.positives, comparison.n - comparison.positives
    uses_bound = positives >= ENOUGH_POSITIVES
    broken, parts = [], []
    for measure, margin in MARGINS.items():
        change: Change = getattr(comparison, measure)
        holds = (change.low if uses_bound else change.value) >= -margin - ROUNDING
        if not holds:
            broken.append(measure)
        parts.append(_held(measure, change, holds, f"its margin of -{margin:g}"))
    held = "the interval's lower bound" if uses_bound else "the point difference"
    because = "" if uses_bound else f", because the lower bound needs {ENOUGH_POSITIVES} positives"
    counted = f"{positives} positives and {negatives} negatives"
    too_few = min(positives, negatives) < FEWEST_IMAGES
    lacks = f"{counted} are too few to judge a model: at least {FEWEST_IMAGES} of each are needed" if too_few else ""
    says = f"on {counted}, {held} is compared with each margin{because}: {'; '.join(parts)}"
    return Judgement(lacks, tuple(broken), f"{lacks}; {says}" if lacks else says)


def _judge_point(comparison: Comparison) -> Judgement:
    found = comparison.new.sensitivity.value
    keeps = comparison.sensitivity.value >= -MARGINS["sensitivity"] - ROUNDING or found >= SENSITIVITY_FLOOR - ROUNDING
    spares = comparison.specificity.value >= -MARGINS["specificity"] - ROUNDING
    broken = [name for name, holds in (("sensitivity", keeps), ("specificity", spares)) if not holds]
    floor = f"the floor of {SENSITIVITY_FLOOR:g} for the same weights ({found:.3f})"
    parts = (
        _held("sensitivity", comparison.sensitivity, keeps, floor),
        _held("specificity", comparison.specificity, spares, f"its margin of -{MARGINS['specificity']:g}"),
    )
    counted = f"{comparison.positives} positives and {comparison.n - comparison.positives} negatives"
    return Judgement("", tuple(broken), f"the same weights at another point, on {counted}: {'; '.join(parts)}")


def _held(measure: str, change: Change, holds: bool, limit: str) -> str:
    interval = f"{change.value:+.4f} [{change.low:+.4f}, {change.high:+.4f}]"
    return f"{measure} {interval} {'holds' if holds else 'BREAKS'} {limit}"


def missed_more(comparison: Comparison) -> str:
    """A text on what a lower sensitivity means for patients: how many more of 1,000 pneumonias are not flagged."""
    more, at_most = (
        max(0, math.ceil(-1000 * change - ROUNDING * 1000))
        for change in (comparison.sensitivity.value, comparison.sensitivity.low)
    )
    return f"{more} more of 1,000 pneumonias not flagged (by the interval: up to {at_most})"
