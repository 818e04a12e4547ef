"""How good a model file is on labelled images, measured with the worker's imaging and model code."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trainer.data.images import in_batches, read_images
from trainer.data.manifest import Sample, digest
from trainer.progress import Report
from trainer.statistics import metrics
from worker.errors import BadData
from worker.inference.estimate import Estimate
from worker.inference.json_values import without_nan
from worker.inference.model import BATCH_SIZES, Model

#: Upper bounds in years, and the names of the bands below them.
AGE_BANDS = (
    (1, "under 1"),
    (6, "1 to 5"),
    (18, "6 to 17"),
    (40, "18 to 39"),
    (60, "40 to 59"),
    (80, "60 to 79"),
    (math.inf, "80 and over"),
)

#: Attributes for which a report has subgroups, where the data name them.
SUBGROUPS: dict[str, Callable[[Sample], str]] = {
    "view": lambda sample: sample.view,
    "age band": lambda sample: age_band(sample.age_years),
    "subtype": lambda sample: sample.subtype,
    "source": lambda sample: sample.source,
    "style": lambda sample: sample.style,
}


@dataclass(frozen=True)
class Evaluation:
    """A model's report on one set of images. NaN: the data do not give this number."""

    model: str
    model_digest: str
    provider: str
    data_digest: str
    n: int
    positives: int
    threshold: float
    metrics: dict[str, Estimate]
    sensitivity_by_subtype: dict[str, Estimate]
    subgroups: dict[str, dict[str, dict[str, Estimate]]]  #: attribute -> its value -> metric; where the data name them
    median_familiarity: float
    unreadable: list[dict[str, str]]

    def to_json(self) -> dict[str, Any]:
        """Plain values; NaN becomes null."""
        plain: dict[str, Any] = without_nan(self)
        return plain


def evaluate(
    model: Model, root: Path, samples: Sequence[Sample], report: Report, prevalence: float | None = None
) -> Evaluation:
    """Decode, preprocess and predict every sample under `root`, and measure at the card's threshold.

    `prevalence`: also give the predictive values at this share of sick patients. A file that cannot be read is listed;
    raises BadData when none can be read.
    """
    read, scores, unreadable = score(model, root, samples, report)
    if not read:
        raise BadData("holds no image that can be read").about(str(root))
    return evaluation_of(model, read, scores, unreadable, prevalence)


def score(
    model: Model, root: Path, samples: Sequence[Sample], report: Report
) -> tuple[list[Sample], metrics.Scores, list[dict[str, str]]]:
    """(samples that could be read; their probability and familiarity [N, 2]; path, code and message of the others)."""
    read: list[Sample] = []
    unreadable: list[dict[str, str]] = []
    scores: list[tuple[float, float]] = []
    for batch in in_batches(read_images(root, samples, unreadable, report), BATCH_SIZES[-1]):
        grids = np.stack([loaded.grid(model.card.preprocessing) for loaded in batch])
        scores += [(p.probability, p.familiarity) for p in model.predict(grids)]
        read += [loaded.sample for loaded in batch]
    return read, np.array(scores, np.float64).reshape(-1, 2), unreadable


def measure(
    labels: metrics.Labels, probabilities: metrics.Scores, threshold: float, prevalence: float | None = None
) -> dict[str, Estimate]:
    """Every metric of the report, by name."""
    counts = metrics.confusion(labels, probabilities, threshold)
    measured = {
        "auc": metrics.roc_auc(labels, probabilities),
        **metrics.rates(counts),
        "f1": metrics.f1(labels, probabilities, threshold),
        "brier": metrics.brier(labels, probabilities),
        "ece": metrics.calibration_error(labels, probabilities),
    }
    if prevalence is not None:
        at = metrics.predictive_values(counts, prevalence)
        measured |= {f"{name} at prevalence {prevalence:g}": value for name, value in at.items()}
    return {name: Estimate(*value) for name, value in measured.items()}


def familiar(distances: metrics.Scores, limit: float) -> Estimate:
    """The share of images within a familiarity limit; NaN counts as outside."""
    return Estimate(*metrics.proportion(int((distances <= limit).sum()), len(distances)))


def evaluation_of(
    model: Model,
    read: Sequence[Sample],
    scores: metrics.Scores,
    unreadable: list[dict[str, str]],
    prevalence: float | None,
) -> Evaluation:
    """The report on the results of `score`."""
    labels = np.array([sample.label for sample in read], np.int64)
    probabilities, threshold = scores[:, 0], model.card.operating_point.threshold
    measured = measure(labels, probabilities, threshold, prevalence)
    if model.card.familiarity_limit is not None:
        measured["familiar"] = familiar(scores[:, 1], model.card.familiarity_limit)
    is_positive = labels == 1
    subtypes = np.array([sample.subtype for sample in read])[is_positive]
    is_found = probabilities[is_positive] >= threshold
    by_subtype = {
        str(name): Estimate(*metrics.proportion(int(is_found[subtypes == name].sum()), int((subtypes == name).sum())))
        for name in np.unique(subtypes)
    }
    return Evaluation(
        model=model.card.name,
        model_digest=model.digest,
        provider=model.provider,
        data_digest=digest(read),
        n=len(read),
        positives=int(labels.sum()),
        threshold=threshold,
        metrics=measured,
        sensitivity_by_subtype=by_subtype,
        subgroups=_subgroups(read, labels, probabilities, threshold),
        median_familiarity=float(np.median(scores[:, 1])),
        unreadable=unreadable,
    )


def age_band(age_years: float | None) -> str:
    """The band of AGE_BANDS that contains an age in years; empty when the age is unknown."""
    if age_years is None:
        return ""
    return next(name for upper, name in AGE_BANDS if age_years < upper)


def _subgroups(
    samples: Sequence[Sample], labels: metrics.Labels, probabilities: metrics.Scores, threshold: float
) -> dict[str, dict[str, dict[str, Estimate]]]:
    found: dict[str, dict[str, dict[str, Estimate]]] = {}
    for attribute, value_of in SUBGROUPS.items():
        values = np.array([value_of(sample) for sample in samples])
        if not values.astype(bool).any():
            continue
        found[attribute] = {
            str(name) or "unknown": _small_report(labels[values == name], probabilities[values == name], threshold)
            for name in np.unique(values)
        }
    return found


def _small_report(labels: metrics.Labels, probabilities: metrics.Scores, threshold: float) -> dict[str, Estimate]:
    rates = metrics.rates(metrics.confusion(labels, probabilities, threshold))
    measured = {
        "auc": metrics.roc_auc(labels, probabilities),
        **rates,
        "f1": metrics.f1(labels, probabilities, threshold),
    }
    return {name: Estimate(*value) for name, value in measured.items()}
