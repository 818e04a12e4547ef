"""One run of `trainer fit`, from a folder of images to a model file: what happens in which order, and where it lies.

The run folder holds split.csv, audit.json, cache/, checkpoint.npz, log.jsonl and, at the end, the model.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from trainer import data
from trainer.audit import audit
from trainer.backbone import RANDOM
from trainer.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from trainer.export import export
from trainer.fit import fit
from trainer.manifest import Manifest, Origin, limit, read_left_out, read_samples, split, write_manifest
from trainer.recipe import Recipe, Start
from trainer.report import Report
from trainer.served import complete
from worker.errors import BadSetting


@dataclass(frozen=True)
class Order:
    """What a person asked for."""

    data: Path
    recipe: Recipe
    out: Path
    index: Path | None = None
    weights: Path | None = None
    left_out: tuple[Path, ...] = ()
    seed: int = 0
    limit: int | None = None
    origin: Origin = Origin()


def run(order: Order, report: Report) -> Path:
    """Split, audit, train, export; returns the model file. Started again, it goes on where it stopped."""
    order.out.mkdir(parents=True, exist_ok=True)
    manifest = split_data(order)
    fingerprint = _fingerprint(order, manifest)
    stood = read_checkpoint(order.out / "checkpoint.npz", fingerprint)
    write_manifest(manifest, order.out / "split.csv")
    findings = audit(manifest, order.data)
    (order.out / "audit.json").write_text(json.dumps(findings.to_json(), indent=1), encoding="utf-8")
    report({"event": "audit", "images": findings.images, "groups": findings.groups, "digest": manifest.digest[:16]})
    for name, counts in findings.by_split.items():
        report({"event": "split", "name": name, **counts})
    for warning in findings.warnings:
        report({"event": "warning", "text": warning})
    return _train(order, manifest, fingerprint, stood, report)


def split_data(order: Order) -> Manifest:
    """The samples of the order, dealt out."""
    samples = read_samples(order.data, order.index)
    if order.limit is not None:
        samples = limit(samples, order.limit, order.seed)
    left_out = [sample for path in order.left_out for sample in read_left_out(path)]
    return split(samples, order.seed, left_out)


def _train(order: Order, manifest: Manifest, fingerprint: str, stood: Checkpoint | None, report: Report) -> Path:
    recipe, seed = order.recipe, order.seed
    cache = order.out / "cache"

    def grids(name: str) -> data.Grids:
        return data.load_grids(order.data, manifest.of(name), recipe.preprocessing, cache, report)

    train, validation = grids("train"), grids("validation")
    train_labels, labels = data.labels_of(manifest.of("train")), data.labels_of(manifest.of("validation"))
    data.seed_everything(seed)
    network = recipe.build(Start(recipe.preprocessing.size, recipe.backbone, order.weights))
    copies, watched = data.watched_copies(recipe, validation, labels, seed)
    path = order.out / "checkpoint.npz"
    fit(
        recipe,
        network,
        lambda epoch: data.TrainingBatches(train, train_labels, recipe, seed, epoch),
        copies,
        watched,
        fingerprint,
        stood,
        lambda checkpoint: write_checkpoint(checkpoint, path),
        report,
    )
    served = complete(network, train, validation, labels)
    model = order.out / f"{recipe.name}.onnx"
    export(recipe, served, manifest, order.data, validation, model, order.origin, report)
    return model


def _fingerprint(order: Order, manifest: Manifest) -> str:
    """Of everything that decides what the next epoch does."""
    weights = order.weights
    plain = {name: value for name, value in vars(order.recipe).items() if name != "build"}
    hasher = hashlib.sha256(f"{plain} {order.seed} {manifest.digest} {weights == RANDOM}".encode())
    if weights is not None and weights != RANDOM:
        if not weights.is_file():
            raise BadSetting("no such weights file").about(str(weights))
        hasher.update(weights.read_bytes())
    return hasher.hexdigest()
