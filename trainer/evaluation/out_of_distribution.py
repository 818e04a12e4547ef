"""How many images of each kind are outside a model's familiarity limit: held-out, changed, other pictures.

Measured with the worker's imaging and model code.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.data.images import in_batches, read_images
from trainer.data.manifest import Sample, digest
from trainer.evaluation.non_radiographs import KINDS, Image, generate
from trainer.progress import Report, silent
from trainer.statistics import metrics
from worker.errors import BadData, ModelRefused
from worker.imaging.preprocess import apply
from worker.inference.estimate import Estimate
from worker.inference.json_values import without_nan
from worker.inference.model import BATCH_SIZES, Model

#: Number of generated pictures of each kind.
COUNT = 100

HELD_OUT = "held-out images"

LATERALS = (
    "laterals: not measured, for none were at hand; a lateral is kept from a negative verdict by the view in its header"
    " alone"
)


class Wanted(StrEnum):
    """Which side of the limit images of a kind should be on."""

    INSIDE = "inside"
    OUTSIDE = "outside"
    EITHER = ""  #: reported only; both sides are acceptable


#: Held-out images in a wrong presentation. The style does not change, so some of them stay within the limit.
CHANGES: dict[str, Callable[[Image], Image]] = {
    "held-out, inverted": lambda image: np.asarray(255 - image, np.uint8),
    "held-out, turned by 90 degrees": lambda image: np.rot90(image).copy(),
    "held-out, turned by 180 degrees": lambda image: np.rot90(image, 2).copy(),
    "held-out, the middle quarter": lambda image: _window(image, 0.25),
    "held-out, the upper left quarter": lambda image: _window(image, 0.0),
}


@dataclass(frozen=True)
class Kind:
    """One kind of images, and the share of them beyond the limit."""

    wanted: str  #: of Wanted
    outside: Estimate
    count_outside: int
    nearest: float  #: smallest familiarity divided by the limit; above 1 all are outside
    median: float


@dataclass(frozen=True)
class FamiliarityTest:
    """A model's report on every kind."""

    model: str
    model_digest: str
    provider: str
    data_digest: str  #: of the held-out images
    limit: float
    kept_on_validation: Estimate | None  #: from the card: the images that the limit was chosen on
    kinds: dict[str, Kind]
    unreadable: list[dict[str, str]]

    @property
    def remarks(self) -> list[str]:
        """Kinds that were not measured."""
        return [] if any("lateral" in name.lower() for name in self.kinds) else [LATERALS]

    def to_json(self) -> dict[str, Any]:
        """Plain values; NaN becomes null."""
        plain: dict[str, Any] = without_nan(vars(self) | {"remarks": self.remarks})
        return plain


def measure_familiarity(
    model: Model, root: Path, samples: Sequence[Sample], strangers: Path | None, report: Report, count: int = COUNT
) -> FamiliarityTest:
    """Measure the held-out `samples` under `root`, their CHANGES, `count` pictures of each of KINDS.

    Each subfolder of `strangers` is one more kind. A file that cannot be read is listed. Raises ModelRefused when the
    card has no limit, BadData when no held-out image can be read.
    """
    limit = model.card.familiarity_limit
    if limit is None:
        raise ModelRefused("the card has no familiarity limit, so no image is refused: export the model again")
    read, kinds, unreadable = _held_out(model, root, samples, limit, report)
    for name in KINDS:
        kinds[name] = _kind(Wanted.OUTSIDE, _distances(model, generate(name, count)), limit)
    folders = [] if strangers is None else sorted(path for path in strangers.iterdir() if path.is_dir())
    for folder in folders:
        files = (path.relative_to(folder.parent) for path in sorted(folder.rglob("*")) if path.is_file())
        others = [Sample(path.as_posix(), 0, "", "", "") for path in files]
        pictures = [loaded.pixels for loaded in read_images(folder.parent, others, unreadable, silent)]
        if pictures:
            kinds[folder.name] = _kind(Wanted.OUTSIDE, _distances(model, pictures), limit)
    return FamiliarityTest(
        model=model.card.name,
        model_digest=model.digest,
        provider=model.provider,
        data_digest=digest(read),
        limit=limit,
        kept_on_validation=model.card.metrics.get("validation_familiar"),
        kinds=kinds,
        unreadable=unreadable,
    )


def _held_out(
    model: Model, root: Path, samples: Sequence[Sample], limit: float, report: Report
) -> tuple[list[Sample], dict[str, Kind], list[dict[str, str]]]:
    """(samples that could be read; the kinds made of them; path, code and message of the other files)."""
    changes: dict[str, Callable[[Image], Image]] = {HELD_OUT: lambda image: image, **CHANGES}
    found: dict[str, list[float]] = {name: [] for name in changes}
    read: list[Sample] = []
    unreadable: list[dict[str, str]] = []
    for batch in in_batches(read_images(root, samples, unreadable, report), BATCH_SIZES[-1]):
        read += [loaded.sample for loaded in batch]
        for name, change in changes.items():
            found[name] += _distances(model, (change(loaded.pixels) for loaded in batch))
    if not read:
        raise BadData("holds no image that can be read").about(str(root))
    wanted = {HELD_OUT: Wanted.INSIDE}
    kinds = {name: _kind(wanted.get(name, Wanted.EITHER), values, limit) for name, values in found.items()}
    return read, kinds, unreadable


def _distances(model: Model, pictures: Iterable[Image]) -> list[float]:
    grids = [apply(picture, model.card.preprocessing)[0] for picture in pictures]
    return [prediction.familiarity for prediction in model.predict(np.stack(grids))] if grids else []


def _kind(wanted: Wanted, distances: Sequence[float], limit: float) -> Kind:
    values: NDArray[np.float64] = np.array(distances, np.float64)
    outside = int((~(values <= limit)).sum())  # NaN counts as outside
    estimate = Estimate(*metrics.proportion(outside, len(values)))
    return Kind(str(wanted), estimate, outside, float(values.min()) / limit, float(np.median(values)) / limit)


def _window(image: Image, start: float) -> Image:
    """Half of each side, from the fraction `start` of it."""
    height, width = image.shape
    top, left = int(height * start), int(width * start)
    return np.ascontiguousarray(image[top : top + height // 2, left : left + width // 2])
