"""A model again with its convolutions in float16: another model, with a file, card and goldens of its own.

Everything on its card is measured by the new file itself, on the provider that it was made on. How far it moved from
the original is told, and what moved too far is refused.
"""

import os
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from trainer.data.manifest import Manifest
from trainer.evaluation.agreement import Answers, Look, Moved, ask, look, moved, require_near
from trainer.evaluation.evaluate import evaluation_of, without_nan
from trainer.export.card import promises, quoted, versions, write
from trainer.export.float16_graph import halve
from trainer.progress import Report
from trainer.statistics.operating_point import ThresholdRule, rule_said
from worker.errors import BadSetting
from worker.imaging.preprocess import apply
from worker.imaging.reading import read_display
from worker.inference.card import Estimate, Golden, ModelCard
from worker.inference.model import PROVIDERS, OnnxModel, open_model, replay_goldens

SUFFIX = "_fp16"
PRECISION = "float16 from the first convolution to the last, else float32"
PACKAGES = ("chest-screening", "onnx", "onnxruntime", "onnxruntime-gpu", "numpy", "opencv-python-headless")

CPU, CUDA = PROVIDERS["cpu"], PROVIDERS["cuda"]

#: Largest |difference| of a golden's probability: provider that scored it -> provider that replays it. On a CPU, ONNX
#: Runtime rounds the weights but computes in float32; on CUDA every result is rounded to float16, and another device or
#: release rounds others up. Near the threshold that is some thousandths.
TOLERANCES = {CPU: {CPU: 1e-3, CUDA: 1e-2}, CUDA: {CPU: 1e-2, CUDA: 5e-3}}


@dataclass(frozen=True)
class Halved:
    """The account of a conversion: both files, and how far the new one's answers lie from the original's."""

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
    goldens_largest: float  #: largest |difference| of a golden's probability from what the original's card says
    moved: dict[str, Moved]  #: by split
    metrics: dict[str, Estimate]  #: as on the new card
    unreadable: list[dict[str, str]]

    def to_json(self) -> dict[str, Any]:
        """Plain values; NaN becomes null."""
        plain: dict[str, Any] = without_nan(self)
        return plain


def half(
    path: Path, provider: str, root: Path, manifest: Manifest, rule: ThresholdRule | None, out: Path, report: Report
) -> Halved:
    """Write the model of `path` in float16 to `out`, whole or not at all, measured on the manifest's splits.

    The threshold is chosen anew on the validation split, by `rule` or else by the one that the card tells. Raises
    ModelRefused, leaving no file behind, when an answer is no finite number, when too many flags turn or when a golden
    does not replay; BadData when a split lacks a class.
    """
    import onnx

    if out.resolve() == path.resolve():
        raise BadSetting("a model in float16 is another model: give --out another name than the original's")
    original = _opened(path, provider)
    rule = rule or rule_said(original.card.operating_point.rule)
    looks = {
        split: look(root, manifest.of(split), original.card.preprocessing, report) for split in ("validation", "test")
    }
    proto = halve(onnx.load(path))
    part = out.with_name(out.name + ".part")
    try:
        write(proto, original.card, part)  # as yet, to be asked
        made = _opened(part, _setting_of(original.provider))
        before, after = ({split: ask(model, seen) for split, seen in looks.items()} for model in (original, made))
        card = _card(original, made, rule, looks, after)
        thresholds = original.card.operating_point.threshold, card.operating_point.threshold
        moves = {split: moved(before[split], after[split], thresholds) for split in looks}
        require_near(moves)
        write(proto, card, part)
        for each in dict.fromkeys((CPU, made.provider)):
            made = _opened(part, _setting_of(each))
            replay_goldens(made)
        part.replace(out)
    finally:
        part.unlink(missing_ok=True)
    unreadable = [fault for seen in looks.values() for fault in seen.unreadable]
    return _account(original, made, path, out, moves, unreadable)


def _card(
    original: OnnxModel, made: OnnxModel, rule: ThresholdRule, looks: dict[str, Look], answers: dict[str, Answers]
) -> ModelCard:
    """The original's card with everything that the answers of the new file say otherwise."""
    seen, said = looks["validation"], answers["validation"]
    promised = promises(rule, seen.samples, said.probabilities, said.familiarity, seen.grids)
    card = replace(
        original.card,
        name=original.card.name + SUFFIX,
        reduced_decode=None,  # that was measured of the original
        versions=versions(PACKAGES) | {"precision": PRECISION, "made from": original.digest},
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        goldens=tuple(_scored(golden, made) for golden in original.card.goldens),
        **promised._asdict(),
    )
    seen, said = looks["test"], answers["test"]
    scores = np.stack([said.probabilities, said.familiarity], axis=1)
    tested = evaluation_of(replace(made, card=card), seen.samples, scores, seen.unreadable, None)
    return replace(card, metrics=card.metrics | quoted(tested))


def _scored(golden: Golden, made: OnnxModel) -> Golden:
    """The same file with the score of the new model, from its bytes on."""
    grid, _ = apply(read_display(golden.content).pixels, made.card.preprocessing)
    return replace(golden, probability=made.predict(grid[None])[0].probability, tolerances=TOLERANCES[made.provider])


def _opened(path: Path, provider: str) -> OnnxModel:
    return open_model(path, provider, threads=os.cpu_count() or 1)


def _setting_of(provider: str) -> str:
    """The name by which `open_model` is asked for this execution provider."""
    return next(name for name, each in PROVIDERS.items() if each == provider)


def _account(
    original: OnnxModel,
    made: OnnxModel,
    path: Path,
    out: Path,
    moves: dict[str, Moved],
    unreadable: list[dict[str, str]],
) -> Halved:
    old, new = original.card, made.card
    pairs = zip(old.goldens, new.goldens, strict=True)
    return Halved(
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
        moved=moves,
        metrics=new.metrics,
        unreadable=unreadable,
    )
