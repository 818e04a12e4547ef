"""How well a model file's heat maps tell what it looked at: deletion and insertion against maps that know nothing.

The map is held against a random one of the same grid and against a hill in the image's centre. The usual references,
a blurred, grey or black image, say nothing where a model takes a lack of detail for disease: its probability then
never falls. So the pixels come, by default, from the most similar normal image that the model does not flag.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainer.data.manifest import Sample, digest
from trainer.evaluation.evaluate import without_nan
from trainer.progress import Report
from trainer.statistics.deletion import (
    REFERENCES,
    STEPS,
    Heat,
    Image,
    area,
    between,
    blurred,
    centre_heat,
    random_heat,
    ranks,
)
from trainer.statistics.paired import mean_difference
from worker.errors import BadData, Rejected
from worker.imaging.preprocess import apply
from worker.imaging.reading import read_display
from worker.inference.card import Estimate
from worker.inference.model import Model, open_model

#: Less is better in a deletion, more in an insertion.
GAMES = ("deletion", "insertion")
MAPS = ("model", "random", "centre")


class Trial(NamedTuple):
    """One positive image, both games with each of the three maps."""

    probability: float
    reference_probability: float
    blurred_probability: float
    has_heat: bool
    curves: NDArray[np.float64]  #: [GAMES, MAPS, STEPS + 1]: probability over the share of pixels that changed


@dataclass(frozen=True)
class Scores:
    """Means over some images; 95 % intervals by bootstrap over patients, paired for the differences."""

    n: int
    without_heat: int  #: images whose map is empty: ties then decide, as in the random map
    probability: float
    reference_probability: float
    blurred_probability: float  #: near 1: to blur an image hides nothing from this model
    areas: dict[str, dict[str, Estimate]]  #: game -> map -> area under the curve
    differences: dict[str, dict[str, Estimate]]  #: game -> "model - random", "model - centre"
    curves: dict[str, dict[str, list[float]]]  #: game -> map -> mean probability at each step


@dataclass(frozen=True)
class HeatTest:
    """What the deletion game says of one model on some positive images."""

    model: str
    model_digest: str
    heat_method: str
    provider: str
    data_digest: str
    threshold: float
    reference: str
    normals: int  #: that the references were chosen from
    seed: int
    steps: int
    groups: dict[str, Scores]  #: "positives", and of these "true positives": what the model flags
    unreadable: list[dict[str, str]]

    def to_json(self) -> dict[str, Any]:
        """Plain values; NaN becomes null."""
        plain: dict[str, Any] = without_nan(vars(self))
        return plain


def heat(
    model: Model,
    root: Path,
    samples: Sequence[Sample],
    report: Report,
    reference: str = "normal",
    limit: int | None = None,
    seed: int = 0,
) -> HeatTest:
    """Play both games on the positive samples, or on `limit` of them that `seed` draws; it draws the random maps too.

    `reference` is one of REFERENCES. A file that cannot be read is listed, not fatal. Raises BadData when no positive
    image is left, or no normal one to take pixels from.
    """
    positives = _drawn([sample for sample in samples if sample.label == 1], limit, seed)
    normals = [sample for sample in samples if sample.label == 0] if reference == "normal" else []
    grids, unreadable = grids_of(model, root, (*positives, *normals), report)
    played = [sample for sample in positives if sample.path in grids]
    if not played:
        raise BadData("holds no readable image with pneumonia").about(str(root))
    quiet = not_flagged(model, [grids[sample.path] for sample in normals if sample.path in grids])
    if reference == "normal" and not quiet:
        raise BadData("holds no normal image that the model leaves unflagged: choose --reference blurred").about(
            str(root)
        )
    trials = []
    for number, sample in enumerate(played):
        image = grids[sample.path]
        trials.append(play(model, image, REFERENCES[reference](image, quiet), np.random.default_rng((seed, number))))
        report({"event": "reading", "done": number + 1, "total": len(played)})
    threshold = model.card.operating_point.threshold
    flagged = np.array([trial.probability >= threshold for trial in trials])
    groups = {"positives": np.ones(len(played), bool), "true positives": flagged}
    return HeatTest(
        model=model.card.name,
        model_digest=model.digest,
        heat_method=model.card.heat_method,
        provider=model.provider,
        data_digest=digest(played),
        threshold=threshold,
        reference=reference,
        normals=len(quiet),
        seed=seed,
        steps=STEPS,
        groups={name: _scores(trials, played, inside) for name, inside in groups.items() if inside.any()},
        unreadable=unreadable,
    )


def heat_file(
    path: Path,
    provider: str,
    root: Path,
    samples: Sequence[Sample],
    report: Report,
    reference: str = "normal",
    limit: int | None = None,
) -> HeatTest:
    """`heat` of the model file at `path` on all cores; raises what `open_model` raises."""
    return heat(open_model(path, provider, threads=os.cpu_count() or 1), root, samples, report, reference, limit)


def play(model: Model, image: Image, reference: Image, rng: np.random.Generator) -> Trial:
    """Both games on one image [size, size], against `reference`."""
    seen, other, soft = model.predict(_batch([image, reference, blurred(image, ())]))
    noise = random_heat(seen.heatmap.shape, rng)
    maps: tuple[Heat, ...] = (seen.heatmap, noise, centre_heat(seen.heatmap.shape))
    curves = np.empty((len(GAMES), len(MAPS), STEPS + 1))
    for column, each in enumerate(maps):
        places = ranks(each, noise, len(image))
        for row, (start, end) in enumerate(((image, reference), (reference, image))):
            found = model.predict(_batch(between(start, end, places)))
            curves[row, column, 1:-1] = [prediction.probability for prediction in found]
    curves[0, :, 0] = curves[1, :, -1] = seen.probability
    curves[0, :, -1] = curves[1, :, 0] = other.probability
    return Trial(seen.probability, other.probability, soft.probability, bool(seen.heatmap.any()), curves)


def grids_of(
    model: Model, root: Path, samples: Sequence[Sample], report: Report
) -> tuple[dict[str, Image], list[dict[str, str]]]:
    """Path -> the image on the model's grid; and what cannot be read."""
    grids, unreadable = {}, []
    for done, sample in enumerate(samples, start=1):
        try:
            pixels = read_display((root / sample.path).read_bytes()).pixels
        except Rejected as error:
            unreadable.append({"path": sample.path, "code": error.code, "message": error.message})
        else:
            grids[sample.path] = apply(pixels, model.card.preprocessing)[0][:, :, 0]
        report({"event": "reading", "done": done, "total": len(samples)})
    return grids, unreadable


def not_flagged(model: Model, images: Sequence[Image]) -> list[Image]:
    """Those of the images that `model` scores below its threshold."""
    if not images:
        return []
    threshold = model.card.operating_point.threshold
    found = model.predict(_batch(images))
    return [image for image, prediction in zip(images, found, strict=True) if prediction.probability < threshold]


def _scores(trials: Sequence[Trial], samples: Sequence[Sample], inside: NDArray[np.bool_]) -> Scores:
    chosen = [trial for trial, is_inside in zip(trials, inside, strict=True) if is_inside]
    _, patients = np.unique([sample.patient for sample in samples], return_inverse=True)
    curves = np.stack([trial.curves for trial in chosen])
    areas = area(curves)

    def estimate(values: NDArray[np.float64], less: NDArray[np.float64]) -> Estimate:
        return Estimate(*mean_difference(less, values, patients[inside]), n=len(chosen))

    nothing = np.zeros(len(chosen))
    named = list(enumerate(GAMES))
    own, others = MAPS[0], list(enumerate(MAPS))[1:]
    return Scores(
        n=len(chosen),
        without_heat=sum(not trial.has_heat for trial in chosen),
        probability=float(np.mean([trial.probability for trial in chosen])),
        reference_probability=float(np.mean([trial.reference_probability for trial in chosen])),
        blurred_probability=float(np.mean([trial.blurred_probability for trial in chosen])),
        areas={
            game: {name: estimate(areas[:, row, column], nothing) for column, name in enumerate(MAPS)}
            for row, game in named
        },
        differences={
            game: {f"{own} - {name}": estimate(areas[:, row, 0], areas[:, row, column]) for column, name in others}
            for row, game in named
        },
        curves={
            game: {name: curves[:, row, column].mean(axis=0).round(5).tolist() for column, name in enumerate(MAPS)}
            for row, game in named
        },
    )


def _drawn(samples: Sequence[Sample], limit: int | None, seed: int) -> list[Sample]:
    """At most `limit` of the samples, in their order."""
    if limit is None or limit >= len(samples):
        return list(samples)
    kept = np.random.default_rng(seed).choice(len(samples), limit, replace=False)
    return [samples[i] for i in np.sort(kept)]


def _batch(images: Sequence[Image]) -> NDArray[np.uint8]:
    return np.stack(images)[..., None]
