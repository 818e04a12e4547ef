"""Whether heat maps show the pixels that decide the probability: deletion and insertion tests against baseline maps.

The baselines are a random map on the same grid and a map that is highest in the centre. The usual references (a
blurred, grey or black image) do not work for a model that takes a lack of detail for disease, because its probability
never falls. So by default the pixels come from the most similar normal image that the model does not flag.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainer.data.images import read_images
from trainer.data.manifest import Sample, digest
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
from worker.errors import BadData
from worker.inference.estimate import Estimate
from worker.inference.json_values import without_nan
from worker.inference.model import Model

#: A smaller area is better for deletion, a larger one for insertion.
TESTS = ("deletion", "insertion")
MAPS = ("model", "random", "centre")


class Trial(NamedTuple):
    """Both tests of one positive image, with each of the three maps."""

    probability: float
    reference_probability: float
    blurred_probability: float
    has_heat: bool
    curves: NDArray[np.float64]  #: [TESTS, MAPS, STEPS + 1]: probability over the share of pixels that changed


@dataclass(frozen=True)
class Scores:
    """Means over some images; 95 % intervals by bootstrap over patients, paired for the differences."""

    n: int
    without_heat: int  #: images whose map is empty: ties then decide, as in the random map
    probability: float
    reference_probability: float
    blurred_probability: float  #: near 1: a blurred copy is still flagged
    areas: dict[str, dict[str, Estimate]]  #: test -> map -> area under the curve
    differences: dict[str, dict[str, Estimate]]  #: test -> "model - random", "model - centre"
    curves: dict[str, dict[str, list[float]]]  #: test -> map -> mean probability at each step


@dataclass(frozen=True)
class FaithfulnessTest:
    """The result of both tests for one model on some positive images."""

    model: str
    model_digest: str
    heat_method: str
    provider: str
    data_digest: str
    threshold: float
    reference: str
    normals: int  #: number of images that the references were chosen from
    seed: int
    steps: int
    groups: dict[str, Scores]  #: "positives", and those that the model flags: "true positives"
    unreadable: list[dict[str, str]]

    def to_json(self) -> dict[str, Any]:
        """Plain values; NaN becomes null."""
        plain: dict[str, Any] = without_nan(vars(self))
        return plain


def measure_faithfulness(
    model: Model,
    root: Path,
    samples: Sequence[Sample],
    report: Report,
    reference: str = "normal",
    limit: int | None = None,
    seed: int = 0,
) -> FaithfulnessTest:
    """Run both tests on the positive samples, or on `limit` of them; `seed` draws them and the random maps.

    `reference` is one of REFERENCES. A file that cannot be read is listed. Raises BadData when no positive
    image is left, or no normal image as reference.
    """
    positives = _drawn([sample for sample in samples if sample.label == 1], limit, seed)
    normals = [sample for sample in samples if sample.label == 0] if reference == "normal" else []
    grids, unreadable = grids_of(model, root, (*positives, *normals), report)
    tested = [sample for sample in positives if sample.path in grids]
    if not tested:
        raise BadData("holds no readable image with pneumonia").about(str(root))
    quiet = not_flagged(model, [grids[sample.path] for sample in normals if sample.path in grids])
    if reference == "normal" and not quiet:
        raise BadData("holds no normal image that the model does not flag: choose --reference blurred").about(str(root))
    trials = _trials(model, [grids[sample.path] for sample in tested], quiet, reference, seed, report)
    threshold = model.card.operating_point.threshold
    flagged = np.array([trial.probability >= threshold for trial in trials])
    groups = {"positives": np.ones(len(tested), bool), "true positives": flagged}
    return FaithfulnessTest(
        model=model.card.name,
        model_digest=model.digest,
        heat_method=model.card.heat_method,
        provider=model.provider,
        data_digest=digest(tested),
        threshold=threshold,
        reference=reference,
        normals=len(quiet),
        seed=seed,
        steps=STEPS,
        groups={name: _scores(trials, tested, inside) for name, inside in groups.items() if inside.any()},
        unreadable=unreadable,
    )


def _trials(
    model: Model, images: Sequence[Image], quiet: Sequence[Image], reference: str, seed: int, report: Report
) -> list[Trial]:
    """A trial of each image. `quiet`: images that are not flagged, from which a normal reference takes its pixels."""
    trials = []
    for number, image in enumerate(images):
        rng = np.random.default_rng((seed, number))
        trials.append(run_trial(model, image, REFERENCES[reference](image, quiet), rng))
        report({"event": "reading", "done": number + 1, "total": len(images)})
    return trials


def run_trial(model: Model, image: Image, reference: Image, rng: np.random.Generator) -> Trial:
    """Both tests on one image [size, size] with the pixels of `reference`."""
    seen, other, soft = model.predict(_batch([image, reference, blurred(image, ())]))
    noise = random_heat(seen.heatmap.shape, rng)
    maps: tuple[Heat, ...] = (seen.heatmap, noise, centre_heat(seen.heatmap.shape))
    curves = np.empty((len(TESTS), len(MAPS), STEPS + 1))
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
    """Path -> the image on the model's grid; and path, code and message of the files that cannot be read."""
    unreadable: list[dict[str, str]] = []
    grids: dict[str, Image] = {
        loaded.sample.path: loaded.grid(model.card.preprocessing)[:, :, 0]
        for loaded in read_images(root, samples, unreadable, report)
    }
    return grids, unreadable


def not_flagged(model: Model, images: Sequence[Image]) -> list[Image]:
    """The images whose probability is below the threshold of `model`."""
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

    def estimate(values: NDArray[np.float64], subtracted: NDArray[np.float64]) -> Estimate:
        return Estimate(*mean_difference(subtracted, values, patients[inside]), n=len(chosen))

    nothing = np.zeros(len(chosen))
    by_test: dict[str, dict[str, Estimate]] = {}
    differences: dict[str, dict[str, Estimate]] = {}
    mean_curves: dict[str, dict[str, list[float]]] = {}
    for row, test in enumerate(TESTS):
        own = areas[:, row, 0]
        by_test[test] = {name: estimate(areas[:, row, column], nothing) for column, name in enumerate(MAPS)}
        differences[test] = {
            f"{MAPS[0]} - {name}": estimate(own, areas[:, row, column])
            for column, name in enumerate(MAPS)
            if column > 0
        }
        means = curves[:, row].mean(axis=0).round(5)
        mean_curves[test] = {name: means[column].tolist() for column, name in enumerate(MAPS)}
    return Scores(
        n=len(chosen),
        without_heat=sum(not trial.has_heat for trial in chosen),
        probability=float(np.mean([trial.probability for trial in chosen])),
        reference_probability=float(np.mean([trial.reference_probability for trial in chosen])),
        blurred_probability=float(np.mean([trial.blurred_probability for trial in chosen])),
        areas=by_test,
        differences=differences,
        curves=mean_curves,
    )


def _drawn(samples: Sequence[Sample], limit: int | None, seed: int) -> list[Sample]:
    """At most `limit` of the samples, in their order."""
    if limit is None or limit >= len(samples):
        return list(samples)
    kept = np.random.default_rng(seed).choice(len(samples), limit, replace=False)
    return [samples[i] for i in np.sort(kept)]


def _batch(images: Sequence[Image]) -> NDArray[np.uint8]:
    return np.stack(images)[..., None]
