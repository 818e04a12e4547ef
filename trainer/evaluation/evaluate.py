"""How good a model file is on labelled images, measured as it will serve: by the worker's own imaging and model."""

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trainer.data.manifest import Sample, digest
from trainer.progress import Report
from trainer.statistics import metrics
from worker.errors import BadData, Rejected
from worker.imaging.preprocess import apply
from worker.imaging.reading import read_display
from worker.inference.card import Estimate
from worker.inference.model import BATCH_SIZES, Model, open_model

#: Upper bounds in years, and the bands below them.
AGE_BANDS = (
    (1, "under 1"),
    (6, "1 to 5"),
    (18, "6 to 17"),
    (40, "18 to 39"),
    (60, "40 to 59"),
    (80, "60 to 79"),
    (math.inf, "80 and over"),
)

#: What a report is broken down by, where the data name it.
SUBGROUPS: dict[str, Callable[[Sample], str]] = {
    "view": lambda sample: sample.view,
    "age band": lambda sample: age_band(sample.age_years),
    "subtype": lambda sample: sample.subtype,
    "source": lambda sample: sample.source,
    "style": lambda sample: sample.style,
}


@dataclass(frozen=True)
class Evaluation:
    """A model's report on one set of images. NaN: the data cannot give this number."""

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
    """Send every sample under `root` through decode, preprocess and model, and measure at the card's threshold.

    `prevalence`: also give the predictive values where so many are sick. A file that cannot be read is listed, not
    fatal; raises BadData when none can.
    """
    read, scores, unreadable = score(model, root, samples, report)
    if not read:
        raise BadData("holds no image that can be read").about(str(root))
    return evaluation_of(model, read, scores, unreadable, prevalence)


def score(
    model: Model, root: Path, samples: Sequence[Sample], report: Report
) -> tuple[list[Sample], metrics.Scores, list[dict[str, str]]]:
    """(samples that could be read; their probability and familiarity [N, 2]; path, code and message of the others)."""
    grids, read, unreadable = [], [], []
    scores: list[tuple[float, float]] = []
    for i, sample in enumerate(samples):
        try:
            display = read_display((root / sample.path).read_bytes())
        except Rejected as error:
            unreadable.append({"path": sample.path, "code": error.code, "message": error.message})
        else:
            grids.append(apply(display.pixels, model.card.preprocessing)[0])
            read.append(sample)
        if grids and (len(grids) == BATCH_SIZES[-1] or i + 1 == len(samples)):
            scores += [(p.probability, p.familiarity) for p in model.predict(np.stack(grids))]
            grids.clear()
        report({"event": "reading", "done": i + 1, "total": len(samples)})
    return read, np.array(scores, np.float64).reshape(-1, 2), unreadable


def evaluate_file(
    path: Path,
    provider: str,
    root: Path,
    samples: Sequence[Sample],
    report: Report,
    prevalence: float | None = None,
) -> Evaluation:
    """`evaluate` of the model file at `path` on all cores; raises what `open_model` raises."""
    return evaluate(open_model(path, provider, threads=os.cpu_count() or 1), root, samples, report, prevalence)


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
    """The share of images within a familiarity limit; what is no number is not."""
    return Estimate(*metrics.proportion(int((distances <= limit).sum()), len(distances)))


def evaluation_of(
    model: Model,
    read: Sequence[Sample],
    scores: metrics.Scores,
    unreadable: list[dict[str, str]],
    prevalence: float | None,
) -> Evaluation:
    """The report on what `score` gave."""
    labels = np.array([sample.label for sample in read], np.int64)
    probabilities, threshold = scores[:, 0], model.card.operating_point.threshold
    measured = measure(labels, probabilities, threshold, prevalence)
    if model.card.familiarity_limit is not None:
        measured["familiar"] = familiar(scores[:, 1], model.card.familiarity_limit)
    subtypes = np.array([sample.subtype for sample in read])
    by_subtype = {
        str(name): Estimate(*metrics.proportion(int((probabilities[inside] >= threshold).sum()), int(inside.sum())))
        for name in np.unique(subtypes[labels == 1])
        for inside in [(subtypes == name) & (labels == 1)]
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


def without_nan(value: Any) -> Any:
    """Plain values of dataclasses, dictionaries and lists, for JSON; NaN becomes None."""
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, dict):
        return {key: without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [without_nan(inner) for inner in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def age_band(age_years: float | None) -> str:
    """The band of AGE_BANDS that an age in years lies in; empty when it is unknown."""
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
