"""How a model file performs when images of the same patients come from another hospital, archive or viewer.

Validation on the same hospital's images cannot show that a network relies on style. So each held-out image is measured
as it is and in changed copies, in groups. Models are chosen by their worst group.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from trainer.data.augment import change_gamma, match_histogram, mix_amplitude, recompress, resample
from trainer.data.images import read_images
from trainer.data.manifest import Sample, digest
from trainer.data.synthetic_dicom import as_monochrome1
from trainer.progress import Report
from trainer.statistics import metrics
from worker.errors import BadData
from worker.imaging.image_file import read_display
from worker.imaging.preprocess import apply
from worker.inference.estimate import Estimate
from worker.inference.json_values import without_nan
from worker.inference.model import BATCH_SIZES, Model

Image = NDArray[np.uint8]

PLAIN = "as they are"

#: Mixed band of the Fourier spectrum and its strength, as in the validation copies of a fit.
FOURIER_BAND, FOURIER_STRENGTH = 0.1, 0.7

_OPERATORS = {
    "nearest": cv2.INTER_NEAREST,
    "linear": cv2.INTER_LINEAR,
    "area": cv2.INTER_AREA,
    "lanczos": cv2.INTER_LANCZOS4,
}


def _jpeg(quality: int) -> Callable[[Image, Image], Image]:
    return lambda image, _: recompress(image, quality)


def _resampled(operator: int, size: int) -> Callable[[Image, Image], Image]:
    return lambda image, _: resample(image, size, operator, operator)


def _gamma(gamma: float) -> Callable[[Image, Image], Image]:
    return lambda image, _: change_gamma(image, gamma)


#: Group -> change of display values [H, W], given those of an image of the other class in the same shape.
GROUPS: dict[str, Callable[[Image, Image], Image]] = {
    PLAIN: lambda image, _: image,
    "restyled": lambda image, other: mix_amplitude(image, other, FOURIER_BAND, FOURIER_STRENGTH),
    "rematched": match_histogram,
    **{f"jpeg {quality}": _jpeg(quality) for quality in (30, 50, 70, 90, 100)},
    **{f"{name} {size}": _resampled(op, size) for size in (112, 150, 448) for name, op in _OPERATORS.items()},
    **{f"gamma {gamma}": _gamma(gamma) for gamma in (0.6, 0.8, 1.3, 1.6)},
    "12-bit dicom": lambda image, _: read_display(as_monochrome1(image)).pixels,
}


@dataclass(frozen=True)
class Shift:
    """A model's rates on each group of the same images, at the card's threshold."""

    model: str
    model_digest: str
    provider: str
    data_digest: str
    n: int
    positives: int
    threshold: float
    groups: dict[str, dict[str, Estimate]]  #: group -> auc, sensitivity, specificity
    unreadable: list[dict[str, str]]

    @property
    def worst(self) -> str:
        """The group with the lowest AUC."""
        return min(self.groups, key=lambda name: self.groups[name]["auc"].value)

    @property
    def worst_at_threshold(self) -> str:
        """The group with the lowest sum of sensitivity and specificity: where the card's threshold fits worst."""
        return min(
            self.groups,
            key=lambda name: self.groups[name]["sensitivity"].value + self.groups[name]["specificity"].value,
        )

    def auc_loss(self, group: str) -> float:
        """The AUC of the unchanged images minus that of the group."""
        return self.groups[PLAIN]["auc"].value - self.groups[group]["auc"].value

    def to_json(self) -> dict[str, Any]:
        """Plain values; NaN becomes null."""
        named = {"worst": self.worst, "worst_at_threshold": self.worst_at_threshold}
        losses = {"auc_loss": {name: self.auc_loss(name) for name in self.groups}}
        plain: dict[str, Any] = without_nan(vars(self) | named | losses)
        return plain


def shift(model: Model, root: Path, samples: Sequence[Sample], report: Report, seed: int = 0) -> Shift:
    """Measure `model` on every group of GROUPS. A file that cannot be read is listed.

    `seed` decides which image of the other class gives its style to each image. Raises BadData when a class is
    missing among the files that can be read.
    """
    styles, unreadable = _styles(root, samples, model.card.preprocessing.size, report)
    read = [sample for sample in samples if sample.path in styles]
    labels = np.array([sample.label for sample in read], np.int64)
    if len(np.unique(labels)) < 2:
        raise BadData("a shift needs readable images of both classes").about(str(root))
    rng = np.random.default_rng(seed)
    style_sources = [read[int(rng.choice(np.flatnonzero(labels != label)))].path for label in labels]
    scores: dict[str, list[float]] = {name: [] for name in GROUPS}
    for start in range(0, len(read), BATCH_SIZES[-1]):
        batch = slice(start, start + BATCH_SIZES[-1])
        for name, grids in _grids(model, root, read[batch], [styles[path] for path in style_sources[batch]]):
            scores[name] += [prediction.probability for prediction in model.predict(grids)]
        report({"event": "reading", "done": min(start + BATCH_SIZES[-1], len(read)), "total": len(read)})
    threshold = model.card.operating_point.threshold
    return Shift(
        model=model.card.name,
        model_digest=model.digest,
        provider=model.provider,
        data_digest=digest(read),
        n=len(read),
        positives=int(labels.sum()),
        threshold=threshold,
        groups={name: _measure(labels, np.array(values), threshold) for name, values in scores.items()},
        unreadable=unreadable,
    )


def _styles(
    root: Path, samples: Sequence[Sample], size: int, report: Report
) -> tuple[dict[str, Image], list[dict[str, str]]]:
    """Path -> a small copy for its style; and path, code and message of the files that cannot be read."""
    unreadable: list[dict[str, str]] = []
    styles = {
        loaded.sample.path: np.asarray(cv2.resize(loaded.pixels, (size, size), interpolation=cv2.INTER_AREA), np.uint8)
        for loaded in read_images(root, samples, unreadable, report)
    }
    return styles, unreadable


def _grids(
    model: Model, root: Path, samples: Sequence[Sample], others: Sequence[Image]
) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """The name of each group and its batch [N, size, size, 1] for the model."""
    images = [read_display((root / sample.path).read_bytes()).pixels for sample in samples]
    shaped = [
        np.asarray(cv2.resize(other, image.shape[::-1], interpolation=cv2.INTER_LINEAR), np.uint8)
        for image, other in zip(images, others, strict=True)
    ]
    for name, change in GROUPS.items():
        changed = [change(image, other) for image, other in zip(images, shaped, strict=True)]
        yield name, np.stack([apply(image, model.card.preprocessing)[0] for image in changed])


def _measure(labels: metrics.Labels, probabilities: metrics.Scores, threshold: float) -> dict[str, Estimate]:
    rates = metrics.rates(metrics.confusion(labels, probabilities, threshold))
    measured = {"auc": metrics.roc_auc(labels, probabilities)}
    measured |= {name: rates[name] for name in ("sensitivity", "specificity")}
    return {name: Estimate(*value) for name, value in measured.items()}
