"""The floor of a site's sensitivity: on the site's own positives, and on the validation images of the model."""

from typing import NamedTuple

import numpy as np

from trainer.evaluation.logit_line import Line
from trainer.export.site_images import Scored, one_of_each_patient
from trainer.statistics import metrics
from trainer.statistics.operating_point import at_sensitivity
from trainer.statistics.sample_size import fewest
from worker.inference.card import ModelCard
from worker.inference.estimate import Estimate
from worker.registry.non_inferiority import SENSITIVITY_FLOOR

#: Fewest normals of a site that are advised; fewer leave a wide interval of the specificity.
ADVISED_NORMALS = 100


class OnValidation(NamedTuple):
    """The sensitivity on the model's own validation images at another point."""

    exact: Estimate | None  #: None: the file does not hold their scores
    at_least: float | None  #: then by the histogram of its reference; None: that has no labels either

    @property
    def lowest(self) -> float | None:
        """The sensitivity, or the least that it can be; None where neither is known."""
        return self.at_least if self.exact is None else self.exact.value


def validation_sensitivity(card: ModelCard, line: Line, threshold: float) -> OnValidation:
    """The share of the card's validation positives at or above `threshold` after the line."""
    if card.validation_scores is not None:
        scores = line.of(np.array(card.validation_scores.positives))
        return OnValidation(Estimate(*metrics.proportion(int((scores >= threshold).sum()), len(scores))), None)
    if card.reference is None or len(card.reference.classes) < 2:
        return OnValidation(None, None)
    histogram = card.reference.histograms["probability"]
    wholly_above = np.append(False, line.of(np.array(histogram.edges)) >= threshold)
    positives = np.array(histogram.counts[1])
    return OnValidation(None, float(positives[wholly_above].sum() / max(1, positives.sum())))


def below_floor(local: Estimate, of_patients: Estimate, on_validation: OnValidation) -> str:
    """Where the sensitivity is below the floor, in words; empty where it is not.

    `local` counts images, `of_patients` the patients who are found in each of their images: many images of one patient
    do not outweigh other patients who are missed.
    """
    parts = []
    if local.value < SENSITIVITY_FLOOR:
        parts.append(f"{_count(local)} of {local.n} positives of these images ({local.value:.3f})")
    elif of_patients.value < SENSITIVITY_FLOOR:
        each = f"in each of their images ({of_patients.value:.3f})"
        parts.append(f"{_count(of_patients)} of {of_patients.n} patients with pneumonia {each}")
    lowest = on_validation.lowest
    if lowest is None:
        parts.append("an unknown share of the model's validation images, because the file does not hold their scores")
    elif lowest < SENSITIVITY_FLOOR:
        only = "" if on_validation.exact else ", which is all that its reference shows (`trainer reference` adds more)"
        parts.append(f"{lowest:.3f} of the positives among the model's validation images{only}")
    return f"it would find {' and '.join(parts)}; the floor is {SENSITIVITY_FLOOR:g}" if parts else ""


def highest_allowed(scored: Scored, card: ModelCard, line: Line) -> str:
    """The highest threshold above the floor on all of these, and what it gives here, in words; empty if not known."""
    labels, probabilities = scored.labels, scored.probabilities
    if card.validation_scores is None:
        return ""
    on_validation = line.of(np.array(card.validation_scores.positives))
    threshold = min(
        at_sensitivity(labels, probabilities, SENSITIVITY_FLOOR),
        at_sensitivity(*one_of_each_patient(scored), SENSITIVITY_FLOOR),
        at_sensitivity(np.ones(len(on_validation), np.int64), on_validation, SENSITIVITY_FLOOR),
    )
    found, missed, left_alone, flagged = metrics.confusion(labels, probabilities, threshold)
    return (
        f" (the floor allows --rule fixed={threshold:g}: {found} of {found + missed} found, {left_alone} of"
        f" {left_alone + flagged} normals left alone)"
    )


def remarks_on(
    images: int, found: Estimate, left_alone: Estimate, on_validation: OnValidation, below: str
) -> tuple[str, ...]:
    """What a reader of the card must know of its numbers, which are of this number of images.

    `found` and `left_alone` count patients with pneumonia who are flagged, and patients without who are not, in each of
    their images.
    """
    positives, normals = found.n, left_alone.n
    needed = fewest(SENSITIVITY_FLOOR)
    remarks = []
    if positives < needed:
        remarks.append(f"local sensitivity not shown: {positives} patients with pneumonia, {needed} are needed")
    if normals < ADVISED_NORMALS:
        remarks.append(f"{normals} patients without pneumonia; {ADVISED_NORMALS} are advised")
    if positives + normals < images:
        remarks.append(
            f"several images of some patients, so the intervals are too narrow: in each of their images"
            f" {_count(found)} of {positives} patients with pneumonia are found, {_count(left_alone)} of {normals}"
            " without it left alone"
        )
    if on_validation.exact is None and on_validation.at_least is not None:
        remarks.append(f"sensitivity on the validation images is at least {on_validation.at_least:.3f}")
    if below:
        remarks.append(f"lower sensitivity accepted: {below}")
    return tuple(remarks)


def _count(share: Estimate) -> int:
    return round(share.value * share.n)
