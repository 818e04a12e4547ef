"""One run of `trainer fit`, from a folder of images to a model file: the order of the steps.

The run folder holds split.csv, audit.json, cache/, checkpoint.npz, log.jsonl and, at the end, the model and run.json; a
run over folds holds one such folder for each, and out_of_fold.csv.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import keras

from trainer.data.atomic_file import write_atomically
from trainer.data.audit import audit
from trainer.data.folders import read_samples, read_together, root_of
from trainer.data.left_out import left_out_of
from trainer.data.manifest import Manifest, Origin, Sample, digest, write_manifest
from trainer.data.split import folds, limit, split, without
from trainer.export.card import Elsewhere
from trainer.export.graph import export
from trainer.export.serving_graph import complete
from trainer.progress import Report
from trainer.recipes.backbone import RANDOM
from trainer.recipes.lung_net import lung_fields, read_lung_net
from trainer.recipes.recipe import Network, Recipe, Start
from trainer.run.out_of_fold import OUT_OF_FOLD, predictions_of, summary, write_predictions
from trainer.run.record import Record, digest_of, is_made, write_record
from trainer.statistics.operating_point import ThresholdRule
from trainer.training.batches import (
    Loaded,
    TrainingBatches,
    guests_of,
    labels_of,
    load_grids,
    monitored_copies,
    propensity_of,
    seed_everything,
)
from trainer.training.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from trainer.training.fit import fit
from trainer.training.lung_field_batches import FieldBatches
from trainer.training.precision import as_exported, build_to_train, require_precision
from trainer.training.teachers import Teachers, open_teachers
from trainer.training.warm_start import CHECKPOINT
from worker.errors import BadSetting

#: Of a recipe's fields, those that decide no epoch; `build` is code.
AFTER_TRAINING = ("build", "threshold", "prevalence")


@dataclass(frozen=True)
class FitOptions:
    """The options of `trainer fit`."""

    data: Path
    recipe: Recipe
    out: Path
    index: Path | None = None
    more: tuple[tuple[Path, Path | None], ...] = ()  #: further folders, each with its index
    elsewhere: tuple[Path, Path | None] | None = None  #: images of another place: help choose the threshold
    elsewhere_rule: ThresholdRule | None = None  #: of the threshold there; None: the recipe's
    weights: Path | None = None
    left_out: tuple[Path, ...] = ()
    teachers: tuple[Path, ...] = ()  #: model files that give a part of each label
    seed: int = 0
    split_seed: int | None = None  #: of the split alone; None: `seed`
    limit: int | None = None
    origin: Origin = Origin()
    is_patient_each: bool = False
    keeps_stated: bool = True  #: keep the splits that folders or the index state
    command: str = ""  #: the command line, for the record

    @property
    def splits_by(self) -> int:
        """The seed of what is chosen and split."""
        return self.seed if self.split_seed is None else self.split_seed

    @property
    def root(self) -> Path:
        """The folder that the paths of samples start from: the data's own, or the one above them all."""
        return root_of([self.data, *(folder for folder, _ in self.more)]) if self.more else self.data

    def read(self) -> tuple[Sample, ...]:
        """The samples of all folders, in the order of paths."""
        if not self.more:
            return read_samples(self.data, self.index, self.is_patient_each)
        return read_together(((self.data, self.index), *self.more), self.is_patient_each)


def run(options: FitOptions, report: Report) -> Path:
    """Split, audit, train, export; returns the model file. An interrupted run continues after its last epoch."""
    require_precision(options.recipe)
    teachers = teachers_of(options)
    samples, left_out = read_data(options)
    return run_split(options, split(samples, options.splits_by, left_out, options.keeps_stated), teachers, report)


def run_folds(options: FitOptions, count: int, report: Report) -> Path:
    """`run` once for each of `count` folds, into folders of their own; returns the CSV of out-of-fold predictions."""
    require_precision(options.recipe)
    teachers = teachers_of(options)
    samples, left_out = read_data(options)
    rows: list[tuple[Any, ...]] = []
    for fold, manifest in enumerate(folds(samples, count, options.splits_by, left_out), start=1):
        report({"event": "fold", "fold": fold, "of": count})
        model = run_split(replace(options, out=fold_folder(options.out, fold)), manifest, teachers, report)
        rows += predictions_of(model, fold, options.root, manifest.of("test"), report)
    path = options.out / OUT_OF_FOLD
    write_predictions(rows, path)
    report({"event": "out_of_fold", "file": path.name, **summary(rows)})
    return path


def fold_folder(out: Path, fold: int) -> Path:
    """The folder of the run of one fold, counted from 1."""
    return out / f"fold-{fold}"


def read_data(options: FitOptions) -> tuple[tuple[Sample, ...], list[Sample]]:
    """The samples of a run, and the samples whose patients are left out."""
    samples = options.read()
    left_out = left_out_of(samples, options.left_out, options.is_patient_each)
    if options.limit is not None:
        samples = limit(samples, options.limit, options.splits_by)
    return samples, left_out


def teachers_of(options: FitOptions) -> Teachers:
    """The teachers, opened before any image is read. Raises ModelRefused, BadSetting for one of another grid."""
    teachers = open_teachers(options.teachers)
    teachers.require_grid(options.recipe.preprocessing.size)
    return teachers


@dataclass(frozen=True)
class Prepared:
    """The images of a run, split and read, and what an earlier start of it left."""

    manifest: Manifest
    loaded: dict[str, Loaded]  #: of the splits train and validation
    teachers: Teachers
    fingerprint: str  #: of everything that influences the next epoch
    checkpoint: Checkpoint | None  #: None: no epoch is finished yet


def run_split(options: FitOptions, manifest: Manifest, teachers: Teachers, report: Report) -> Path:
    """Audit, train and export on a manifest; returns the model file. A finished model is kept as it is."""
    teachers.require_split(manifest.digest)
    prepared = _prepare(options, manifest, teachers, report)
    model = options.out / f"{options.recipe.name}.onnx"
    about = options.origin, options.recipe, _elsewhere_digest(options)
    if prepared.checkpoint is not None and is_made(options.out, model, *about):
        report({"event": "kept", "model": model.name})
        return model
    model_digest = _train(options, prepared, model, report)
    write_record(_record(options, prepared, model.name, model_digest), options.out)
    return model


def _prepare(options: FitOptions, manifest: Manifest, teachers: Teachers, report: Report) -> Prepared:
    """Read the images, then write split and audit; for another run's checkpoint it raises BadSetting before that."""
    cache, preprocessing = options.out / "cache", options.recipe.preprocessing
    loaded = {
        name: load_grids(options.root, manifest.of(name), preprocessing, cache, report)
        for name in ("train", "validation")
    }
    faults = [fault for part in loaded.values() for fault in part.unreadable]
    if faults:
        manifest = without(manifest, (fault["path"] for fault in faults))
    fingerprint = _fingerprint(options, manifest, teachers)
    checkpoint = read_checkpoint(options.out / CHECKPOINT, fingerprint)
    write_manifest(manifest, options.out / "split.csv")
    _audit(options, manifest, faults, report)
    return Prepared(manifest, loaded, teachers, fingerprint, checkpoint)


def _audit(options: FitOptions, manifest: Manifest, faults: Sequence[dict[str, str]], report: Report) -> None:
    """Audit the images into audit.json, and report splits, unreadable files and warnings."""
    findings = audit(manifest, options.root, report)
    write_atomically(json.dumps(findings.to_json(), indent=1).encode(), options.out / "audit.json")
    report({"event": "audit", "images": findings.images, "groups": findings.groups, "digest": manifest.digest[:16]})
    for name, counts in findings.by_split.items():
        report({"event": "split", "name": name, **counts})
    for fault in faults:
        report({"event": "unreadable", **fault})
    for warning in findings.warnings:
        report({"event": "warning", "text": warning})


def _train(options: FitOptions, prepared: Prepared, model: Path, report: Report) -> str:
    """Train, from the checkpoint on if there is one, and export to `model`; returns its digest."""
    recipe, seed, checkpoint_file = options.recipe, options.seed, options.out / CHECKPOINT
    train, validation = prepared.loaded["train"], prepared.loaded["validation"]
    labels = labels_of(validation.samples)
    seed_everything(seed)
    start = Start(recipe.preprocessing.size, recipe.backbone, options.weights)
    network = build_to_train(recipe, start)
    copies, monitored = monitored_copies(recipe, validation.grids, labels, seed)
    batches = batches_of(recipe, network, train, prepared.teachers, seed)

    fit(
        recipe,
        network,
        batches,
        copies,
        monitored,
        prepared.fingerprint,
        prepared.checkpoint,
        lambda latest: write_checkpoint(latest, checkpoint_file),
        report,
    )
    network = as_exported(recipe, start, network)
    seen = batches(recipe.epochs)  # augmented views of an epoch after the last one
    views = (seen[step][0] for step in range(len(seen)))
    served = complete(network, train.grids, views, validation.grids, labels, recipe.prevalence)
    elsewhere = _elsewhere(options, report)
    return export(
        recipe, served, prepared.manifest, options.root, validation.grids, model, options.origin, report, elsewhere
    ).digest


def batches_of(
    recipe: Recipe, network: Network, train: Loaded, teachers: Teachers, seed: int
) -> Callable[[int], TrainingBatches]:
    """The batches of an epoch by its number. For local evidence the lung fields of all images are predicted once.

    Raises BadSetting where there are teachers and the evidence is not local.
    """
    labels, is_guest = labels_of(train.samples), guests_of(recipe, train.samples)
    if network.local is None:
        if teachers.models:
            raise BadSetting(f"recipe {recipe.name} takes no --teacher: only one with local evidence does")
        propensity = propensity_of(recipe, train)
        return lambda epoch: TrainingBatches(train.grids, labels, recipe, seed, epoch, propensity, is_guest)
    fields = lung_fields(read_lung_net(recipe.preprocessing.size), train.grids)
    logits = network.taught.output_shape[-1]
    return lambda epoch: FieldBatches(train.grids, fields, labels, recipe, seed, epoch, is_guest, logits, teachers)


def _elsewhere(options: FitOptions, report: Report) -> Elsewhere | None:
    """The images of another place on the recipe's grid."""
    if options.elsewhere is None:
        return None
    folder, index = options.elsewhere
    samples = read_samples(folder, index, options.is_patient_each)
    read = load_grids(folder, samples, options.recipe.preprocessing, options.out / "cache", report)
    return Elsewhere(read.samples, read.grids, options.elsewhere_rule or options.recipe.threshold)


def _elsewhere_digest(options: FitOptions) -> str:
    """Digest of the images of another place, and the rule that the threshold keeps there; empty without such images."""
    if options.elsewhere is None:
        return ""
    folder, index = options.elsewhere
    rule = options.elsewhere_rule or options.recipe.threshold
    return f"{digest(read_samples(folder, index, options.is_patient_each))} {rule}"


def _record(options: FitOptions, prepared: Prepared, model: str, model_digest: str) -> Record:
    weights = options.weights
    return Record(
        command=options.command,
        recipe=options.recipe.to_json(),
        seed=options.seed,
        weights_digest=digest_of(weights) if weights is not None and weights != RANDOM else "",
        split_digest=prepared.manifest.digest,
        checkpoint_digest=digest_of(options.out / CHECKPOINT),
        origin=asdict(options.origin),
        model_file=model,
        model_digest=model_digest,
        backend=keras.backend.backend(),
        elsewhere_digest=_elsewhere_digest(options),
        teachers=tuple(teacher.digest for teacher in prepared.teachers.models),
    )


def _fingerprint(options: FitOptions, manifest: Manifest, teachers: Teachers) -> str:
    """Digest of everything that influences the next epoch; threshold and prevalence come after the last one."""
    weights = options.weights
    plain = {name: value for name, value in vars(options.recipe).items() if name not in AFTER_TRAINING}
    hasher = hashlib.sha256(f"{plain} {options.seed} {manifest.digest} {weights == RANDOM}".encode())
    hasher.update(teachers.digest.encode())
    if weights is not None and weights != RANDOM:
        if not weights.is_file():
            raise BadSetting("no such weights file").about(str(weights))
        hasher.update(weights.read_bytes())
    return hasher.hexdigest()
