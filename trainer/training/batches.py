"""From files to training batches, with the worker's imaging as in serving; grids are cached on disk."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import cv2
import keras
import numpy as np
from numpy.typing import NDArray

from trainer.data import augment
from trainer.data.atomic_file import write_atomically, written_atomically
from trainer.data.images import read_images
from trainer.data.manifest import Sample, digest
from trainer.data.sampling import BATCHES, class_weights, guest_batches, style_balanced_batches, undersample
from trainer.data.style import describe, propensities
from trainer.progress import Report
from trainer.recipes.recipe import Monitor, Recipe
from worker.errors import BadData
from worker.imaging.preprocess import Preprocessing

#: Threads that augment; numpy and OpenCV release the GIL. 32 views take 90 ms, a training step on two cores 1,000.
WORKERS = 2
QUEUED_BATCHES = 8

#: Random streams of one seed.
_BATCH_ORDER, AUGMENTATION, _SHIFT, _UNDERSAMPLING = range(4)

Grids = NDArray[np.uint8]  #: [N, size, size] display values on the model's grid


class Loaded(NamedTuple):
    """The images of some samples on a recipe's grid."""

    samples: tuple[Sample, ...]  #: those that could be read, in their order
    grids: Grids  #: [N, size, size], memory-mapped
    unreadable: tuple[dict[str, str], ...]  #: path, code and message of the others


def load_grids(
    root: Path, samples: Sequence[Sample], preprocessing: Preprocessing, cache: Path, report: Report
) -> Loaded:
    """The samples' grids from `cache`, built there at first use. A file that cannot be read is listed.

    The name of the cache file is a digest of the preprocessing, of the samples, and of the size and time of each file,
    so a change of any of them builds a new one. Raises BadData when no file can be read.
    """
    key = json.dumps(preprocessing.to_json(), sort_keys=True) + digest(samples) + _sizes_and_times(root, samples)
    path = cache / f"grids-{hashlib.sha256(key.encode()).hexdigest()[:16]}.npy"
    faults = path.with_suffix(".unreadable.json")
    if not faults.is_file() or not path.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        unreadable = _fill(path, root, samples, preprocessing, report)
        write_atomically(json.dumps(unreadable).encode(), faults)
    unreadable = json.loads(faults.read_text(encoding="utf-8"))
    gone = {fault["path"] for fault in unreadable}
    read = tuple(sample for sample in samples if sample.path not in gone)
    if not read:
        raise BadData(f"none of the {len(samples)} images can be read: {unreadable[0]['message']}").about(str(root))
    return Loaded(read, np.asarray(np.load(path, mmap_mode="r")), tuple(unreadable))


def _sizes_and_times(root: Path, samples: Sequence[Sample]) -> str:
    """Size and time of modification of each file, as JSON.

    The digest of the samples is not enough: `source_sha256` in an index may be that of the published original.
    """
    states = []
    for sample in samples:
        try:
            status = (root / sample.path).stat()
        except OSError:
            states.append((0, 0))
        else:
            states.append((status.st_size, status.st_mtime_ns))
    return json.dumps(states)


def labels_of(samples: Sequence[Sample]) -> NDArray[np.int64]:
    """The labels [N] of the samples."""
    return np.array([sample.label for sample in samples], np.int64)


def propensity_of(recipe: Recipe, train: Loaded) -> NDArray[np.float64] | None:
    """P(pneumonia | style) of the training images [N] for a style-balanced recipe, else None."""
    if recipe.batches != "style balanced":
        return None
    described = [describe(grid) for grid in train.grids]
    return propensities(described, labels_of(train.samples), [sample.group for sample in train.samples])


def guests_of(recipe: Recipe, samples: Sequence[Sample]) -> NDArray[np.bool_] | None:
    """Which samples [N] are not of the largest source; None if there is one source, or the recipe has no guests."""
    sources = np.array([sample.source for sample in samples])
    names, counts = np.unique(sources, return_counts=True)
    if recipe.guests is None or len(names) < 2:
        return None
    return np.asarray(sources != names[np.argmax(counts)])


def seed_everything(seed: int) -> None:
    """Seed Python, numpy and the backend, so that initial weights and dropout repeat."""
    keras.utils.set_random_seed(seed)


class TrainingBatches(keras.utils.PyDataset):  # type: ignore[misc]
    """One epoch of augmented batches: (uint8 [B, size, size, 1], float32 [B, 1] [, weights float32 [B]]).

    Every batch has its own generator, seeded by (seed, epoch, step), so it is the same in every thread and after an
    interrupted run is resumed. Undersampling keeps the same images in every epoch. Style-balanced recipes need
    `propensity` [N], recipes with guests `is_guest` [N].
    """

    def __init__(
        self,
        grids: Grids,
        labels: NDArray[np.int64],
        recipe: Recipe,
        seed: int,
        epoch: int,
        propensity: NDArray[np.float64] | None = None,
        is_guest: NDArray[np.bool_] | None = None,
    ) -> None:
        super().__init__(workers=WORKERS, use_multiprocessing=False, max_queue_size=QUEUED_BATCHES)
        self.grids, self.labels, self.how = grids, labels, recipe.augmentation
        self.seed, self.epoch = seed, epoch
        kept = np.arange(len(labels))
        if recipe.undersampled:
            kept = undersample(labels, np.random.default_rng((seed, _UNDERSAMPLING)))
        rng = np.random.default_rng((seed, epoch, _BATCH_ORDER))
        if is_guest is not None and recipe.guests is not None:
            shares = recipe.guests.negatives, recipe.guests.positives
            order = guest_batches(labels[kept], is_guest[kept], shares, recipe.batch_size, rng)
        elif propensity is not None:
            order = style_balanced_batches(labels[kept], recipe.batch_size, rng, propensity[kept])
        else:
            order = BATCHES[recipe.batches](labels[kept], recipe.batch_size, rng)
        self.order = kept[order]
        self.weights = class_weights(labels[kept]) if recipe.class_weighted else None
        self.by_class = [kept[labels[kept] == label] for label in (0, 1)]

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, step: int) -> tuple[NDArray[Any], ...]:
        rng = np.random.default_rng((self.seed, self.epoch, step, AUGMENTATION))
        members = self.order[step]
        views = [augment.augment(self.grids[i], self._other(rng), self.how, rng) for i in members]
        labels = self.labels[members]
        batch = np.stack(views)[..., None], labels.astype(np.float32)[:, None]
        if self.weights is None:
            return batch
        return *batch, np.array([self.weights[int(label)] for label in labels], np.float32)

    def _other(self, rng: np.random.Generator) -> NDArray[np.uint8]:
        """An image of either class, both equally often, so that the style does not predict the label."""
        return np.asarray(self.grids[int(rng.choice(self.by_class[int(rng.integers(2))]))])


def monitored_copies(
    recipe: Recipe, grids: Grids, labels: NDArray[np.int64], seed: int
) -> tuple[dict[str, Grids], NDArray[np.int64]]:
    """The images that score each epoch, and their labels: the validation images, balanced if the recipe says so."""
    if recipe.balanced_validation:
        kept = undersample(labels, np.random.default_rng((seed, _UNDERSAMPLING)))
        grids, labels = grids[kept], labels[kept]
    if recipe.monitor is Monitor.WORST_AUC:
        return shifted_copies(grids, labels, recipe.augmentation.fourier_band, seed), labels
    return {"plain": np.asarray(grids)}, labels


def shifted_copies(grids: Grids, labels: NDArray[np.int64], band: float, seed: int) -> dict[str, Grids]:
    """The validation images as another hospital might send them; the lowest AUC of the copies is the epoch's score.

    `restyled` and `rematched` give every image the style of one of the *opposite* class: a network that relies on
    style fails on them.
    """
    rng = np.random.default_rng((seed, _SHIFT))
    others = [grids[int(rng.choice(np.flatnonzero(labels != label)))] for label in labels]
    pairs = list(zip(grids, others, strict=True))
    return {
        "plain": np.asarray(grids),
        "restyled": np.stack([augment.mix_amplitude(g, o, band, 0.7) for g, o in pairs]),
        "rematched": np.stack([augment.match_histogram(g, o) for g, o in pairs]),
        "jpeg_30": np.stack([augment.recompress(g, 30) for g in grids]),
        "gamma_0.6": np.stack([augment.change_gamma(g, 0.6) for g in grids]),
        "gamma_1.6": np.stack([augment.change_gamma(g, 1.6) for g in grids]),
        "area_150": np.stack([augment.resample(g, 150, cv2.INTER_AREA, cv2.INTER_LINEAR) for g in grids]),
        "nearest_150": np.stack([augment.resample(g, 150, cv2.INTER_NEAREST, cv2.INTER_NEAREST) for g in grids]),
    }


def _fill(
    path: Path, root: Path, samples: Sequence[Sample], preprocessing: Preprocessing, report: Report
) -> list[dict[str, str]]:
    """Write the grids of the samples that can be read to `path`; returns path, code and message of the others.

    They are written one after the other: a file that is mapped to memory would end the program with a bus error where
    the disk is full.
    """
    unreadable: list[dict[str, str]] = []
    with written_atomically(path) as file:
        _write_header(file, len(samples), preprocessing.size)
        for loaded in read_images(root, samples, unreadable, report):
            file.write(loaded.grid(preprocessing)[:, :, 0].tobytes())
        file.seek(0)
        _write_header(file, len(samples) - len(unreadable), preprocessing.size)
    return unreadable


def _write_header(file: BinaryIO, count: int, size: int) -> None:
    """The header of a .npy file of `count` grids; numpy makes it equally long for every count."""
    header = {"descr": "|u1", "fortran_order": False, "shape": (count, size, size)}
    np.lib.format.write_array_header_1_0(file, header)
