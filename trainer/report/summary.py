"""The contents of a report as plain data: report.json. The page shows only these numbers."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trainer.data.manifest import NOT_HELD_OUT, Sample
from trainer.evaluation.evaluate import Evaluation, evaluation_of, score
from trainer.progress import Report
from trainer.report.cases import Case, errors
from trainer.run.folder import RunFolder
from trainer.statistics import metrics
from worker.errors import BadData
from worker.inference.card import CARD_KEY, ModelCard
from worker.inference.estimate import Estimate
from worker.inference.json_values import without_nan
from worker.inference.model import Model

LAYOUT = 1
RESEARCH_USE = "Research use only. This is not a medical device."

#: Number of bins of the histogram of probabilities.
HISTOGRAM_BINS = 25


@dataclass(frozen=True)
class Evaluated:
    """The images of one split with the predictions of a model."""

    evaluation: Evaluation
    cases: tuple[Case, ...]


def evaluate_split(
    model: Model, run: RunFolder, data: Path, split: str, prevalence: float, report: Report
) -> Evaluated:
    """Measure the model on one split of the run, as `trainer evaluate`. Raises BadData when images are missing."""
    samples = run.manifest.of(split)
    if not samples:
        raise BadData(f"has no split {split!r}").about(str(run.path))
    for sample in samples:
        if not (data / sample.path).is_file():
            raise BadData(f"lacks {sample.path}: give --data, the folder that the run was fitted on").about(str(data))
    read, scores, unreadable = score(model, data, samples, report)
    if not read:
        raise BadData("holds no image that can be read").about(str(data))
    evaluation = evaluation_of(model, read, scores, unreadable, prevalence)
    threshold = model.card.operating_point.threshold
    cases = [Case(s, float(p), threshold, float(f)) for s, (p, f) in zip(read, scores, strict=True)]
    return Evaluated(evaluation, tuple(cases))


def summarize(
    run: RunFolder, card: ModelCard, evaluated: Evaluated, split: str, prevalence: float, pictured: Sequence[Case]
) -> dict[str, Any]:
    """All contents of the report except the pictures, as plain values; numbers that are not defined are None."""
    cases = evaluated.cases
    labels = np.array([case.sample.label for case in cases], np.int64)
    probabilities = np.array([case.probability for case in cases], np.float64)
    flagged = np.array([case.is_flagged for case in cases], np.float64)
    summary: dict[str, Any] = without_nan(
        {
            "layout": LAYOUT,
            "research_use": RESEARCH_USE,
            "title": card.recipe,
            "split": split,
            "prevalence": prevalence,
            "patients": len({case.sample.patient for case in cases}),
            "warnings": _warnings(run, card, evaluated, split),
            "evaluation": asdict(evaluated.evaluation),
            "confusion": metrics.confusion(labels, flagged, 0.5)._asdict(),
            "average_precision": asdict(Estimate(*metrics.average_precision(labels, probabilities))),
            "curves": curves(labels, probabilities),
            "learning": run.epochs,
            "errors": [row_of(case) for case in errors(cases)],
            "pictured": [row_of(case) for case in pictured],
            "audit": run.audit,
            "card": json.loads(card.to_metadata()[CARD_KEY]),
            "record": asdict(run.record) if run.record else None,
            "split_manifest": {"seed": run.manifest.seed, "digest": run.manifest.digest},
        }
    )
    return summary


def curves(labels: metrics.Labels, probabilities: metrics.Scores) -> dict[str, Any]:
    """The points of the plots; ROC and precision-recall need both classes."""
    edges = np.linspace(0, 1, HISTOGRAM_BINS + 1)
    drawn: dict[str, Any] = {
        "roc": None,
        "precision_recall": None,
        "reliability": [
            {**each._asdict(), "share": each.share._asdict()} for each in metrics.reliability(labels, probabilities)
        ],
        "histogram": {
            "edges": edges.tolist(),
            "normal": np.histogram(probabilities[labels == 0], edges)[0].tolist(),
            "pneumonia": np.histogram(probabilities[labels == 1], edges)[0].tolist(),
        },
    }
    if len(np.unique(labels)) == 2:
        names = ("false_positive_rate", "sensitivity", "threshold")
        roc = metrics.roc_curve(labels, probabilities)
        drawn["roc"] = {name: values.tolist() for name, values in zip(names, roc, strict=True)}
        names = ("recall", "precision", "threshold")
        pr = metrics.precision_recall_curve(labels, probabilities)
        drawn["precision_recall"] = {name: values.tolist() for name, values in zip(names, pr, strict=True)}
    return drawn


def row_of(case: Case) -> dict[str, Any]:
    """One image and its outcome, without the patient."""
    sample: Sample = case.sample
    return {
        "path": sample.path,
        "says": case.outcome,
        "label": sample.label,
        "subtype": sample.subtype,
        "view": sample.view,
        "age_years": sample.age_years,
        "source": sample.source,
        "probability": case.probability,
        "threshold": case.threshold,
        "familiarity": case.familiarity,
        "fold": case.fold,
    }


def _warnings(run: RunFolder, card: ModelCard, evaluated: Evaluated, split: str) -> list[str]:
    """Warnings that limit the numbers: those of the report, then those of the run."""
    found = [NOT_HELD_OUT[split]] if split in NOT_HELD_OUT else []
    if card.data_digest != run.manifest.digest:
        found.append("the model file was made on another split than the split.csv in this folder")
    if unreadable := evaluated.evaluation.unreadable:
        found.append(f"{len(unreadable)} images of this split cannot be read and are not counted")
    return found + run.warnings
