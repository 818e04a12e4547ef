"""Compare an old and a new model file on the same images, with the worker's imaging and model code.

The output folder gets comparison.json, which `worker model promote` reads, and pictures of images with another result.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from trainer.data.atomic_file import write_atomically
from trainer.data.images import in_batches, read_images
from trainer.data.manifest import Sample, digest
from trainer.evaluation.logit_line import weights_digest
from trainer.evaluation.model_file import open_on_all_cores
from trainer.progress import Report
from trainer.statistics import metrics
from trainer.statistics.paired import ROUNDS, SEED, Difference, auc_difference, rate_difference
from worker.errors import BadData
from worker.imaging.image_file import read_display, read_grid
from worker.imaging.preprocess import place
from worker.inference import overlay
from worker.inference.estimate import Estimate
from worker.inference.model import BATCH_SIZES, Model
from worker.inference.prediction import Prediction
from worker.registry.comparison import Change, ComparedModel, Comparison, Flip, Flips

#: Largest number of flips with a picture; the lost ones come first.
PICTURES = 12

METHOD = (
    "AUC: DeLong's test for paired ROC curves (1988). Sensitivity and specificity at each model's own card's threshold:"
    f" 95 % percentile interval of {ROUNDS} paired bootstrap draws over patients, seed {SEED}. All are new minus old."
)


@dataclass(frozen=True)
class Scored:
    """The images that could be read, and the probabilities [2, N] of both models, the old one first."""

    samples: tuple[Sample, ...]
    probabilities: NDArray[np.float64]
    unreadable: tuple[str, ...]


def compare_files(
    old: Path, new: Path, provider: str, root: Path, samples: Sequence[Sample], out: Path, report: Report
) -> Comparison:
    """Compare two model files on the samples under `root` and write the output folder; returns the comparison.

    Raises BadData when both files are the same model, when a threshold was chosen on these samples, or when they lack
    a class. Two points of the same weights may be compared on the images that chose one: nothing was learnt from them
    but the point.
    """
    models = tuple(open_on_all_cores(path, provider) for path in (old, new))
    have_same_weights = weights_digest(old) == weights_digest(new)
    _require_fair(models, samples, old, new, have_same_weights)
    scored = score(models, root, samples, report)
    _require_fair(models, scored.samples, old, new, have_same_weights)  # a card names those that could be read
    comparison = compare(models, scored, have_same_weights)
    out.mkdir(parents=True, exist_ok=True)
    flips = draw_flips(models, flips_of(models, scored), root, out)
    comparison = replace(comparison, flips=flips)
    content = json.dumps(comparison.to_json(), indent=1, allow_nan=False)
    write_atomically(f"{content}\n".encode(), out / "comparison.json")
    return comparison


def score(models: Sequence[Model], root: Path, samples: Sequence[Sample], report: Report) -> Scored:
    """Decode each image once and let each model predict from its own grid. Unreadable files are listed."""
    read: list[Sample] = []
    unreadable: list[dict[str, str]] = []
    found: list[list[float]] = [[] for _ in models]
    for batch in in_batches(read_images(root, samples, unreadable, report), BATCH_SIZES[-1]):
        read += [loaded.sample for loaded in batch]
        for model, probabilities in zip(models, found, strict=True):
            grids = np.stack([loaded.grid(model.card.preprocessing) for loaded in batch])
            probabilities += [prediction.probability for prediction in model.predict(grids)]
    return Scored(tuple(read), np.array(found, np.float64), tuple(fault["path"] for fault in unreadable))


def compare(models: Sequence[Model], scored: Scored, have_same_weights: bool = False) -> Comparison:
    """Every number of the comparison; `flips` is left empty."""
    labels = np.array([sample.label for sample in scored.samples], np.int64)
    if len(labels) == 0 or min((labels == 0).sum(), (labels == 1).sum()) < 2:
        raise BadData("a comparison needs at least two readable images of each class")
    _, patients = np.unique([sample.patient for sample in scored.samples], return_inverse=True)
    old, new = scored.probabilities
    auc, p_value = auc_difference(labels, old, new)
    right = _right(models, scored, labels)
    changes, flips = [], []
    for label in (1, 0):
        inside = labels == label
        was, is_now = right[0][inside], right[1][inside]
        changes.append(rate_difference(was, is_now, patients[inside]))
        flips.append(Flips(lost=int((was & ~is_now).sum()), won=int((~was & is_now).sum())))
    return Comparison(
        old=_compared(models[0], labels, old),
        new=_compared(models[1], labels, new),
        provider=models[0].provider,
        data_digest=digest(scored.samples),
        n=len(labels),
        positives=int(labels.sum()),
        patients=len(np.unique(patients)),
        unreadable=len(scored.unreadable),
        auc=_change(auc),
        auc_p_value=p_value,
        sensitivity=_change(changes[0]),
        specificity=_change(changes[1]),
        positive_flips=flips[0],
        negative_flips=flips[1],
        flips=(),
        method=METHOD,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        same_weights=have_same_weights,
    )


def flips_of(models: Sequence[Model], scored: Scored) -> list[Flip]:
    """Every image with different flags: lost before won, positives before negatives, largest difference first."""
    labels = np.array([sample.label for sample in scored.samples], np.int64)
    right = _right(models, scored, labels)
    flips = [
        Flip(
            path=scored.samples[i].path,
            label=int(labels[i]),
            is_won=bool(right[1][i]),
            old_probability=float(scored.probabilities[0, i]),
            new_probability=float(scored.probabilities[1, i]),
            picture=None,
        )
        for i in np.flatnonzero(right[0] != right[1])
    ]
    return sorted(flips, key=lambda f: (f.is_won, -f.label, -abs(f.new_probability - f.old_probability), f.path))


def draw_flips(models: Sequence[Model], flips: Sequence[Flip], root: Path, out: Path) -> tuple[Flip, ...]:
    """Draw the first PICTURES flips, with the heat map of the old model on the left and of the new one on the right."""
    drawn = []
    for number, flip in enumerate(flips, start=1):
        picture = None
        if number <= PICTURES:
            kind = f"{'won' if flip.is_won else 'lost'}_{'positive' if flip.label else 'negative'}"
            picture = f"flip_{number:02d}_{kind}.png"
            content = (root / flip.path).read_bytes()
            sides = [_overlay(model, content) for model in models]
            (out / picture).write_bytes(cv2.imencode(".png", np.hstack(sides))[1].tobytes())
        drawn.append(replace(flip, picture=picture))
    return tuple(drawn)


def rows_of(comparison: Comparison) -> list[tuple[str, ...]]:
    """The comparison as rows of a table: measure, old, new, difference, its interval, images lost and won."""
    rows = []
    for name, flips in (("auc", None), ("sensitivity", "positive_flips"), ("specificity", "negative_flips")):
        change: Change = getattr(comparison, name)
        sides = [f"{getattr(side, name).value:.4f}" for side in (comparison.old, comparison.new)]
        lost, won = f"p = {comparison.auc_p_value:.3g}", ""  # the AUC has no flips
        if flips is not None:
            counted: Flips = getattr(comparison, flips)
            lost, won = str(counted.lost), str(counted.won)
        rows.append((name, *sides, f"{change.value:+.4f}", f"{change.low:+.4f} to {change.high:+.4f}", lost, won))
    return rows


def _overlay(model: Model, content: bytes) -> NDArray[np.uint8]:
    pixels, grid = read_display(content).pixels, read_grid(content, model.card.preprocessing)
    placement = place(model.card.preprocessing, pixels.shape[1], pixels.shape[0])
    prediction: Prediction = model.predict(grid[None])[0]
    threshold = model.card.operating_point.threshold
    png = overlay.overlay(pixels, prediction.heatmap, placement, prediction.probability, threshold)
    return np.asarray(cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR), np.uint8)


def _require_fair(
    models: Sequence[Model], samples: Sequence[Sample], old: Path, new: Path, have_same_weights: bool
) -> None:
    """Refuse images that do not allow a fair comparison. A card does not say which images trained the model."""
    if models[0].digest == models[1].digest:
        raise BadData("is the same model as the old one").about(str(new))
    chosen_on = {model.card.operating_point.data_digest: path for model, path in zip(models, (old, new), strict=True)}
    path = chosen_on.get(digest(samples))
    if path is not None and not have_same_weights:
        raise BadData("its threshold was chosen on these images: give images that neither model has seen").about(
            str(path)
        )
    if any(sample.split == "train" for sample in samples):
        raise BadData("these images trained a model: give its test split, or other images that neither model has seen")


def _right(models: Sequence[Model], scored: Scored, labels: metrics.Labels) -> list[NDArray[np.bool_]]:
    """For each model, whether it was right on each image at its own threshold."""
    return [
        np.asarray((row >= model.card.operating_point.threshold) == (labels == 1))
        for model, row in zip(models, scored.probabilities, strict=True)
    ]


def _compared(model: Model, labels: metrics.Labels, probabilities: metrics.Scores) -> ComparedModel:
    threshold = model.card.operating_point.threshold
    rates = metrics.rates(metrics.confusion(labels, probabilities, threshold))
    return ComparedModel(
        digest=model.digest,
        name=model.card.name,
        threshold=threshold,
        auc=Estimate(*metrics.roc_auc(labels, probabilities)),
        sensitivity=Estimate(*rates["sensitivity"]),
        specificity=Estimate(*rates["specificity"]),
    )


def _change(difference: Difference) -> Change:
    return Change(*difference)
