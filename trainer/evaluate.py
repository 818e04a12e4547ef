"""How good a model file is on labelled images, measured as it will serve: by `worker.imaging` and `worker.model`."""

import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trainer import metrics
from trainer.manifest import Sample, digest
from trainer.report import Report
from worker.errors import BadData, Rejected
from worker.imaging.preprocess import apply
from worker.imaging.reading import read_display
from worker.model import BATCH_SIZES, Model, open_model
from worker.modelcard import Estimate


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
    median_familiarity: float
    unreadable: list[dict[str, str]]

    def to_json(self) -> dict[str, Any]:
        """Plain values; NaN becomes null."""
        plain: dict[str, Any] = _without_nan(asdict(self))
        return plain


def evaluate(model: Model, root: Path, samples: Sequence[Sample], report: Report) -> Evaluation:
    """Send every sample under `root` through decode, preprocess and model, and measure at the card's threshold.

    A file that cannot be read is listed, not fatal; raises BadData when none can.
    """
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
    if not read:
        raise BadData("holds no image that can be read").about(str(root))
    return _evaluation(model, read, np.array(scores, np.float64), unreadable)


def evaluate_file(path: Path, provider: str, root: Path, samples: Sequence[Sample], report: Report) -> Evaluation:
    """`evaluate` of the model file at `path` on all cores; raises what `open_model` raises."""
    return evaluate(open_model(path, provider, threads=os.cpu_count() or 1), root, samples, report)


def measure(labels: metrics.Labels, probabilities: metrics.Scores, threshold: float) -> dict[str, Estimate]:
    """Every metric of the report, by name."""
    measured = {
        "auc": metrics.roc_auc(labels, probabilities),
        **metrics.rates(metrics.confusion(labels, probabilities, threshold)),
        "f1": metrics.f1(labels, probabilities, threshold),
        "brier": metrics.brier(labels, probabilities),
        "ece": metrics.calibration_error(labels, probabilities),
    }
    return {name: Estimate(*value) for name, value in measured.items()}


def _evaluation(
    model: Model, read: Sequence[Sample], scores: metrics.Scores, unreadable: list[dict[str, str]]
) -> Evaluation:
    labels = np.array([sample.label for sample in read], np.int64)
    probabilities, threshold = scores[:, 0], model.card.operating_point.threshold
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
        metrics=measure(labels, probabilities, threshold),
        sensitivity_by_subtype=by_subtype,
        median_familiarity=float(np.median(scores[:, 1])),
        unreadable=unreadable,
    )


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and math.isnan(value) else value
