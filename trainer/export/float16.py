"""Convert the convolutions of a model to float16. The result is a new model with its own file, card and goldens.

Everything on its card is measured with the new file, on the execution provider that runs the conversion. The
differences from the original are reported, and a model that differs too much is refused.
"""

import os
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from trainer.data.manifest import Manifest
from trainer.evaluation.agreement import (
    Differences,
    LoadedSplit,
    Predictions,
    differences,
    load_split,
    predict_split,
    require_near,
)
from trainer.evaluation.evaluate import evaluation_of
from trainer.export.card import measure_fields, metrics_on_test_split, versions, write
from trainer.export.float16_graph import halve
from trainer.progress import Report
from trainer.statistics.operating_point import ThresholdRule, rule_in_words
from worker.errors import BadSetting
from worker.imaging.reading import read_grid
from worker.inference.card import Golden, ModelCard
from worker.inference.estimate import Estimate
from worker.inference.model import PROVIDERS, OnnxModel, open_model, replay_goldens
from worker.inference.plain_values import without_nan

SUFFIX = "_fp16"
PRECISION = "float16 from the first convolution to the last, else float32"
PACKAGES = ("chest-screening", "onnx", "onnxruntime", "onnxruntime-gpu", "numpy", "opencv-python-headless")

CPU, CUDA = PROVIDERS["cpu"], PROVIDERS["cuda"]

#: Largest |difference| of a golden's probability: provider that scored it -> provider that replays it. On a CPU, ONNX
#: Runtime rounds the weights but computes in float32; on CUDA every result is rounded to float16, and devices and
#: releases round differently. Near the threshold that changes a probability by some thousandths.
TOLERANCES = {CPU: {CPU: 1e-3, CUDA: 1e-2}, CUDA: {CPU: 1e-2, CUDA: 5e-3}}


@dataclass(frozen=True)
class Conversion:
    """Both files of a conversion, and how far the predictions of the new one differ from those of the original."""

    model: str
    model_digest: str
    original_digest: str
    bytes: int
    original_bytes: int
    provider: str
    threshold: float
    original_threshold: float
    familiarity_limit: float | None
    original_familiarity_limit: float | None
    tolerances: dict[str, float]
    goldens_largest: float  #: largest |difference| of a golden's probability from that on the original's card
    moved: dict[str, Differences]  #: by split
    metrics: dict[str, Estimate]  #: as on the new card
    unreadable: list[dict[str, str]]

    def to_json(self) -> dict[str, Any]:
        """Plain values; NaN becomes null."""
        plain: dict[str, Any] = without_nan(self)
        return plain


def convert(
    path: Path, provider: str, root: Path, manifest: Manifest, rule: ThresholdRule | None, out: Path, report: Report
) -> Conversion:
    """Write the model of `path` in float16 to `out`, whole or not at all, measured on the manifest's splits.

    The threshold is chosen again on the validation split, by `rule` or else by the rule on the card. Raises
    ModelRefused, leaving no file behind, when a prediction is not finite, when too many flags change or when a golden
    fails; BadData when a split lacks a class.
    """
    import onnx

    if out.resolve() == path.resolve():
        raise BadSetting("a model in float16 is another model: give --out another name than the original's")
    original = _open(path, provider)
    rule = rule or rule_in_words(original.card.operating_point.rule)
    splits = {
        split: load_split(root, manifest.of(split), original.card.preprocessing, report)
        for split in ("validation", "test")
    }
    proto = halve(onnx.load(path))
    part = out.with_name(out.name + ".part")
    try:
        write(proto, original.card, part)  # a preliminary card, to measure the model with
        made = _open(part, _setting_of(original.provider))
        before, after = (
            {split: predict_split(model, images) for split, images in splits.items()} for model in (original, made)
        )
        card = _card(original, made, rule, splits, after)
        thresholds = original.card.operating_point.threshold, card.operating_point.threshold
        by_split = {split: differences(before[split], after[split], thresholds) for split in splits}
        require_near(by_split)
        write(proto, card, part)
        for each in dict.fromkeys((CPU, made.provider)):
            made = _open(part, _setting_of(each))
            replay_goldens(made)
        part.replace(out)
    finally:
        part.unlink(missing_ok=True)
    unreadable = [fault for images in splits.values() for fault in images.unreadable]
    return _summary(original, made, path, out, by_split, unreadable)


def _card(
    original: OnnxModel,
    made: OnnxModel,
    rule: ThresholdRule,
    splits: dict[str, LoadedSplit],
    answers: dict[str, Predictions],
) -> ModelCard:
    """The original's card, with everything that the predictions of the new file change."""
    images, predictions = splits["validation"], answers["validation"]
    fields = measure_fields(rule, images.samples, predictions.probabilities, predictions.familiarity, images.grids)
    card = replace(
        original.card,
        name=original.card.name + SUFFIX,
        reduced_decode=None,  # it was measured with the original
        site=None,  # the threshold is chosen anew, on validation images
        versions=versions(PACKAGES) | {"precision": PRECISION, "made from": original.digest},
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        goldens=tuple(_scored(golden, made) for golden in original.card.goldens),
        **fields._asdict(),
    )
    images, predictions = splits["test"], answers["test"]
    scores = np.stack([predictions.probabilities, predictions.familiarity], axis=1)
    tested = evaluation_of(replace(made, card=card), images.samples, scores, images.unreadable, None)
    return replace(card, metrics=card.metrics | metrics_on_test_split(tested))


def _scored(golden: Golden, made: OnnxModel) -> Golden:
    """The same file with the probability of the new model, computed from the bytes of the file."""
    grid = read_grid(golden.content, made.card.preprocessing)
    return replace(golden, probability=made.predict(grid[None])[0].probability, tolerances=TOLERANCES[made.provider])


def _open(path: Path, provider: str) -> OnnxModel:
    return open_model(path, provider, threads=os.cpu_count() or 1)


def _setting_of(provider: str) -> str:
    """The name of this execution provider in the settings and in `open_model`."""
    return next(name for name, each in PROVIDERS.items() if each == provider)


def _summary(
    original: OnnxModel,
    made: OnnxModel,
    path: Path,
    out: Path,
    by_split: dict[str, Differences],
    unreadable: list[dict[str, str]],
) -> Conversion:
    old, new = original.card, made.card
    pairs = zip(old.goldens, new.goldens, strict=True)
    return Conversion(
        model=new.name,
        model_digest=made.digest,
        original_digest=original.digest,
        bytes=out.stat().st_size,
        original_bytes=path.stat().st_size,
        provider=made.provider,
        threshold=new.operating_point.threshold,
        original_threshold=old.operating_point.threshold,
        familiarity_limit=new.familiarity_limit,
        original_familiarity_limit=old.familiarity_limit,
        tolerances=TOLERANCES[made.provider],
        goldens_largest=max((abs(mine.probability - theirs.probability) for theirs, mine in pairs), default=0.0),
        moved=by_split,
        metrics=new.metrics,
        unreadable=unreadable,
    )
