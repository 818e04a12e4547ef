"""The out-of-fold predictions of a k-fold run: for each image, by the model that was not trained on its patient."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trainer.data.atomic_file import write_atomically
from trainer.data.manifest import Sample
from trainer.evaluation.evaluate import score
from trainer.progress import Report
from trainer.statistics import metrics
from worker.inference.model import open_model

OUT_OF_FOLD = "out_of_fold.csv"

COLUMNS = ("path", "label", "subtype", "patient", "group", "fold", "probability", "threshold", "is_flagged")


def predictions_of(
    path: Path, fold: int, root: Path, samples: Sequence[Sample], report: Report
) -> list[tuple[Any, ...]]:
    """Rows of COLUMNS for the samples of one fold, by the model of the fold at its threshold."""
    model = open_model(path)
    threshold = model.card.operating_point.threshold
    read, scores, _ = score(model, root, samples, report)
    return [
        (s.path, s.label, s.subtype, s.patient, s.group, fold, round(float(p), 6), threshold, int(p >= threshold))
        for s, p in zip(read, scores[:, 0], strict=True)
    ]


def write_predictions(rows: Sequence[tuple[Any, ...]], path: Path) -> None:
    """Write CSV in the order of paths, whole or not at all."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(sorted(rows))
    write_atomically(text.getvalue().encode(), path)


def summary(rows: Sequence[tuple[Any, ...]]) -> dict[str, float]:
    """AUC over all images; sensitivity and specificity with each image at the threshold of its model."""
    table = [dict(zip(COLUMNS, row, strict=True)) for row in rows]
    labels = np.array([row["label"] for row in table], np.int64)
    flagged = np.array([row["is_flagged"] for row in table], np.float64)
    rates = metrics.rates(metrics.confusion(labels, flagged, 0.5))
    auc = metrics.roc_auc(labels, np.array([row["probability"] for row in table], np.float64))
    measured = {"auc": auc, **rates}
    return {"n": len(rows)} | {name: round(measured[name].value, 5) for name in ("auc", "sensitivity", "specificity")}
