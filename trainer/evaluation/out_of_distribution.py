"""How many images of each kind a model file's familiarity limit leaves outside: held-out ones, changed ones, strangers.

Measured as it will serve, by `worker.imaging` and `worker.inference.model`.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.data.manifest import Sample, digest
from trainer.evaluation.evaluate import without_nan
from trainer.evaluation.non_radiographs import STRANGERS, Image, strangers
from trainer.progress import Report
from trainer.statistics import metrics
from worker.errors import BadData, ModelRefused, Rejected
from worker.imaging.preprocess import apply
from worker.imaging.reading import read_display
from worker.inference.card import Estimate
from worker.inference.model import BATCH_SIZES, Model, open_model

#: Generated pictures of each kind.
COUNT = 100

HELD_OUT = "held-out images"

LATERALS = (
    "laterals: not measured, for none were at hand; a lateral is kept from a negative verdict by the view in its header"
    " alone"
)


class Wanted(StrEnum):
    """Where images of a kind belong."""

    INSIDE = "inside"
    OUTSIDE = "outside"
    EITHER = ""  #: reported, for nothing is promised of them


#: A held-out chest, badly shown. Style does not change, so some of them look familiar.
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
    nearest: float  #: smallest familiarity over the limit; above 1 all lie outside
    median: float


@dataclass(frozen=True)
class Unfamiliar:
    """A model's report on every kind."""

    model: str
    model_digest: str
    provider: str
    data_digest: str  #: of the held-out images
    limit: float
    kept_on_validation: Estimate | None  #: what the card says of the images that the limit was taken from
    kinds: dict[str, Kind]
    unreadable: list[dict[str, str]]

    @property
    def remarks(self) -> list[str]:
        """What the numbers do not say."""
        return [] if any("lateral" in name.lower() for name in self.kinds) else [LATERALS]

    def to_json(self) -> dict[str, Any]:
        """Plain values; NaN becomes null."""
        plain: dict[str, Any] = without_nan(vars(self) | {"remarks": self.remarks})
        return plain


def unfamiliar(
    model: Model, root: Path, samples: Sequence[Sample], foreign: Path | None, report: Report, count: int = COUNT
) -> Unfamiliar:
    """Measure the held-out `samples` under `root`, their CHANGES, `count` pictures of each kind of STRANGERS.

    And the files of each subfolder of `foreign`, a kind each. A file that cannot be read is listed, not fatal. Raises
    ModelRefused when the card has no limit, BadData when no held-out image can be read.
    """
    limit = model.card.familiarity_limit
    if limit is None:
        raise ModelRefused("the card has no familiarity limit, so nothing is kept out: export it again")
    read, kinds, unreadable = _held_out(model, root, samples, limit, report)
    for name in STRANGERS:
        kinds[name] = _kind(Wanted.OUTSIDE, _distances(model, strangers(name, count)), limit)
    for folder in sorted(path for path in foreign.iterdir() if path.is_dir()) if foreign else ():
        pictures, faults = _read((path for path in sorted(folder.rglob("*")) if path.is_file()), folder.parent)
        unreadable += faults
        if pictures:
            kinds[folder.name] = _kind(Wanted.OUTSIDE, _distances(model, pictures.values()), limit)
    return Unfamiliar(
        model=model.card.name,
        model_digest=model.digest,
        provider=model.provider,
        data_digest=digest(read),
        limit=limit,
        kept_on_validation=model.card.metrics.get("validation_familiar"),
        kinds=kinds,
        unreadable=unreadable,
    )


def unfamiliar_file(
    path: Path,
    provider: str,
    root: Path,
    samples: Sequence[Sample],
    foreign: Path | None,
    report: Report,
    count: int = COUNT,
) -> Unfamiliar:
    """`unfamiliar` of the model file at `path` on all cores; raises what `open_model` raises."""
    return unfamiliar(open_model(path, provider, threads=os.cpu_count() or 1), root, samples, foreign, report, count)


def _held_out(
    model: Model, root: Path, samples: Sequence[Sample], limit: float, report: Report
) -> tuple[list[Sample], dict[str, Kind], list[dict[str, str]]]:
    """(samples that could be read; the kinds made of them; what is wrong with the others)."""
    changes: dict[str, Callable[[Image], Image]] = {HELD_OUT: lambda image: image, **CHANGES}
    found: dict[str, list[float]] = {name: [] for name in changes}
    read, unreadable = [], []
    for start in range(0, len(samples), BATCH_SIZES[-1]):
        batch = samples[start : start + BATCH_SIZES[-1]]
        pictures, faults = _read((root / sample.path for sample in batch), root)
        read += [sample for sample in batch if sample.path in pictures]
        unreadable += faults
        for name, change in changes.items():
            found[name] += _distances(model, map(change, pictures.values()))
        report({"event": "reading", "done": start + len(batch), "total": len(samples)})
    if not read:
        raise BadData("holds no image that can be read").about(str(root))
    wanted = {HELD_OUT: Wanted.INSIDE}
    kinds = {name: _kind(wanted.get(name, Wanted.EITHER), values, limit) for name, values in found.items()}
    return read, kinds, unreadable


def _read(paths: Iterable[Path], root: Path) -> tuple[dict[str, Image], list[dict[str, str]]]:
    """Path below `root` -> display values; and path, code and message of what cannot be read."""
    pictures, unreadable = {}, []
    for path in paths:
        name = path.relative_to(root).as_posix()
        try:
            pictures[name] = read_display(path.read_bytes()).pixels
        except Rejected as error:
            unreadable.append({"path": name, "code": error.code, "message": error.message})
    return pictures, unreadable


def _distances(model: Model, pictures: Iterable[Image]) -> list[float]:
    grids = [apply(picture, model.card.preprocessing)[0] for picture in pictures]
    return [prediction.familiarity for prediction in model.predict(np.stack(grids))] if grids else []


def _kind(wanted: Wanted, distances: Sequence[float], limit: float) -> Kind:
    values: NDArray[np.float64] = np.array(distances, np.float64)
    outside = int((~(values <= limit)).sum())  # what is no number is outside too
    estimate = Estimate(*metrics.proportion(outside, len(values)))
    return Kind(str(wanted), estimate, outside, float(values.min()) / limit, float(np.median(values)) / limit)


def _window(image: Image, start: float) -> Image:
    """Half of each side, beginning at the fraction `start` of it."""
    height, width = image.shape
    top, left = int(height * start), int(width * start)
    return np.ascontiguousarray(image[top : top + height // 2, left : left + width // 2])
