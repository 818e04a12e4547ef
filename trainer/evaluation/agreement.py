"""How far one model file's answers to the same images lie from another's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainer.data.images import see
from trainer.data.manifest import Sample
from trainer.progress import Report
from worker.errors import BadData, ModelRefused
from worker.imaging.preprocess import Preprocessing, apply
from worker.inference.model import Model

#: Largest share of images whose flag may turn, each model at its own operating point.
FLIPS = 0.005


@dataclass(frozen=True)
class Look:
    """The images of one split that could be read, as grids [N, size, size, 1]; and what could not be."""

    samples: list[Sample]
    grids: NDArray[np.uint8]
    unreadable: list[dict[str, str]]


@dataclass(frozen=True)
class Answers:
    """What a model says of N images."""

    probabilities: NDArray[np.float64]
    familiarity: NDArray[np.float64]
    heat: NDArray[np.float64]  #: [N, h, w]


@dataclass(frozen=True)
class Moved:
    """Differences on some images: absolute ones, the familiarity's relative above 1, for it has no upper end."""

    images: int
    flips: int  #: flags that turned, each model at its own operating point
    probability_largest: float
    probability_99th_percentile: float
    familiarity_largest: float
    heat_largest: float
    heat_mean: float


def look(root: Path, samples: Sequence[Sample], preprocessing: Preprocessing, report: Report) -> Look:
    """Send the samples under `root` through the worker's eyes; raises BadData unless both classes can be read."""
    unreadable: list[dict[str, str]] = []
    loaded_images = [
        (loaded.sample, apply(loaded.pixels, preprocessing)[0]) for loaded in see(root, samples, unreadable, report)
    ]
    if len({sample.label for sample, _ in loaded_images}) < 2:
        raise BadData("needs readable images of both classes in its validation and its test split").about(str(root))
    return Look([sample for sample, _ in loaded_images], np.stack([grid for _, grid in loaded_images]), unreadable)


def ask(model: Model, seen: Look) -> Answers:
    """What a model says of these images; raises ModelRefused when some of it is no finite number."""
    said = model.predict(seen.grids)
    answers = Answers(
        np.array([each.probability for each in said]),
        np.array([each.familiarity for each in said]),
        np.array([each.heatmap for each in said], np.float64),
    )
    for name, values in vars(answers).items():
        if not np.isfinite(values).all():
            raise ModelRefused(f"{name} of an image is no finite number on {model.provider}")
    return answers


def moved(before: Answers, after: Answers, thresholds: tuple[float, float]) -> Moved:
    """How far `after` lies from `before`; `thresholds` are those of the one model and of the other."""
    probability = np.abs(after.probabilities - before.probabilities)
    familiarity = np.abs(after.familiarity - before.familiarity) / np.maximum(before.familiarity, 1)
    heat = np.abs(after.heat - before.heat)
    turned = (before.probabilities >= thresholds[0]) != (after.probabilities >= thresholds[1])
    return Moved(
        images=len(probability),
        flips=int(turned.sum()),
        probability_largest=float(probability.max()),
        probability_99th_percentile=float(np.quantile(probability, 0.99)),
        familiarity_largest=float(familiarity.max()),
        heat_largest=float(heat.max()),
        heat_mean=float(heat.mean()),
    )


def require_near(moves: Mapping[str, Moved]) -> None:
    """Raise ModelRefused when more than FLIPS of all flags turned."""
    flips, images = (sum(getattr(each, name) for each in moves.values()) for name in ("flips", "images"))
    if flips > FLIPS * images:
        raise ModelRefused(f"{flips} flags of {images} images turned, more than {FLIPS:.1%}: keep the original")
