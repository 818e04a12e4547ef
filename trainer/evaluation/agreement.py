"""How far the predictions of two model files for the same images differ."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainer.data.images import read_images
from trainer.data.manifest import Sample
from trainer.progress import Report
from worker.errors import BadData, ModelRefused
from worker.imaging.preprocess import Preprocessing
from worker.inference.model import Model

#: Largest share of images whose flag may change, each model at its own operating point.
FLIPS = 0.005


@dataclass(frozen=True)
class LoadedSplit:
    """The images of one split that could be read, as grids [N, size, size, 1]; and the files that could not be read."""

    samples: list[Sample]
    grids: NDArray[np.uint8]
    unreadable: list[dict[str, str]]


@dataclass(frozen=True)
class Predictions:
    """The predictions of a model for N images."""

    probabilities: NDArray[np.float64]
    familiarity: NDArray[np.float64]
    heat: NDArray[np.float64]  #: [N, h, w]


@dataclass(frozen=True)
class Differences:
    """Absolute differences on some images; that of familiarity is relative above 1, because it has no upper limit."""

    images: int
    flips: int  #: flags that changed, each model at its own operating point
    probability_largest: float
    probability_99th_percentile: float
    familiarity_largest: float
    heat_largest: float
    heat_mean: float


def load_split(root: Path, samples: Sequence[Sample], preprocessing: Preprocessing, report: Report) -> LoadedSplit:
    """Read the samples under `root` with the worker's imaging; raises BadData unless both classes can be read."""
    unreadable: list[dict[str, str]] = []
    loaded_images = [
        (loaded.sample, loaded.grid(preprocessing)) for loaded in read_images(root, samples, unreadable, report)
    ]
    if len({sample.label for sample, _ in loaded_images}) < 2:
        raise BadData("needs readable images of both classes in its validation and its test split").about(str(root))
    return LoadedSplit(
        [sample for sample, _ in loaded_images], np.stack([grid for _, grid in loaded_images]), unreadable
    )


def predict_split(model: Model, images: LoadedSplit) -> Predictions:
    """The predictions of a model for these images; raises ModelRefused when a value is not finite."""
    predictions = model.predict(images.grids)
    found = Predictions(
        np.array([each.probability for each in predictions]),
        np.array([each.familiarity for each in predictions]),
        np.array([each.heatmap for each in predictions], np.float64),
    )
    for name, values in vars(found).items():
        if not np.isfinite(values).all():
            raise ModelRefused(f"{name} of an image is not a finite number on {model.provider}")
    return found


def differences(before: Predictions, after: Predictions, thresholds: tuple[float, float]) -> Differences:
    """How far `after` differs from `before`; `thresholds` are those of the two models, in this order."""
    probability = np.abs(after.probabilities - before.probabilities)
    familiarity = np.abs(after.familiarity - before.familiarity) / np.maximum(before.familiarity, 1)
    heat = np.abs(after.heat - before.heat)
    changed = (before.probabilities >= thresholds[0]) != (after.probabilities >= thresholds[1])
    return Differences(
        images=len(probability),
        flips=int(changed.sum()),
        probability_largest=float(probability.max()),
        probability_99th_percentile=float(np.quantile(probability, 0.99)),
        familiarity_largest=float(familiarity.max()),
        heat_largest=float(heat.max()),
        heat_mean=float(heat.mean()),
    )


def require_near(by_split: Mapping[str, Differences]) -> None:
    """Raise ModelRefused when more than FLIPS of all flags changed."""
    flips, images = (sum(getattr(each, name) for each in by_split.values()) for name in ("flips", "images"))
    if flips > FLIPS * images:
        raise ModelRefused(f"{flips} flags of {images} images changed, more than {FLIPS:.1%}: keep the original")
