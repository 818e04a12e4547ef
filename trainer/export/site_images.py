"""The images of a site and a model's answers for them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainer.data.images import read_images
from trainer.data.manifest import Sample
from trainer.progress import Report
from trainer.statistics import metrics
from worker.errors import BadData
from worker.inference.model import Model


@dataclass(frozen=True)
class Scored:
    """The images of a site that could be read, as grids [N, size, size, 1], and a model's answers for them."""

    samples: list[Sample]
    grids: NDArray[np.uint8]
    probabilities: metrics.Scores
    familiarity: metrics.Scores

    @property
    def labels(self) -> metrics.Labels:
        """Their labels [N]."""
        return np.array([sample.label for sample in self.samples], np.int64)

    def by(self, model: Model) -> "Scored":
        """The same images with the answers of another model."""
        found = model.predict(self.grids)
        return replace(
            self,
            probabilities=np.array([each.probability for each in found], np.float64),
            familiarity=np.array([each.familiarity for each in found], np.float64),
        )


def score(
    model: Model, root: Path, samples: Sequence[Sample], unreadable: list[dict[str, str]], report: Report
) -> Scored:
    """Read the samples under `root` and score them; raises BadData with fewer than two of a class."""
    loaded = [
        (image.sample, image.grid(model.card.preprocessing)) for image in read_images(root, samples, unreadable, report)
    ]
    counts = [sum(sample.label == label for sample, _ in loaded) for label in (0, 1)]
    if min(counts) < 2:
        raise BadData(f"{counts[0]} normals and {counts[1]} positives can be read: at least two of each are needed")
    nothing = np.empty(0)
    read = Scored([sample for sample, _ in loaded], np.stack([grid for _, grid in loaded]), nothing, nothing)
    return read.by(model)


def one_of_each_patient(scored: Scored) -> tuple[metrics.Labels, metrics.Scores]:
    """(labels, probabilities) with one value for each patient and class: the highest of normals, the lowest of others.

    Images of one patient are alike, and the assurance counts independent cases.
    """
    worst: dict[tuple[str, int], float] = {}
    for sample, probability in zip(scored.samples, map(float, scored.probabilities), strict=True):
        key = sample.patient, sample.label
        before = worst.get(key, probability)
        worst[key] = min(before, probability) if sample.label else max(before, probability)
    return np.array([label for _, label in worst], np.int64), np.array(list(worst.values()), np.float64)
