"""A model file made from another: what its card keeps, what is measured again, and how much its predictions changed."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from trainer.evaluation.agreement import Differences, LoadedSplit, Predictions
from trainer.evaluation.evaluate import evaluation_of
from trainer.export.card import Answered, measure_fields, metrics_on_test_split, versions
from trainer.statistics.operating_point import ThresholdRule
from worker.imaging.image_file import read_grid
from worker.inference.card import Golden, ModelCard
from worker.inference.estimate import Estimate
from worker.inference.json_values import without_nan
from worker.inference.model import OnnxModel

PACKAGES = ("chest-screening", "onnx", "onnxruntime", "onnxruntime-gpu", "numpy", "opencv-python-headless")


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
    original_metrics: dict[str, Estimate]
    unreadable: list[dict[str, str]]

    def to_json(self) -> dict[str, Any]:
        """Plain values; NaN becomes null."""
        plain: dict[str, Any] = without_nan(self)
        return plain


def measured_card(
    original: OnnxModel,
    made: OnnxModel,
    rule: ThresholdRule,
    splits: Mapping[str, LoadedSplit],
    answers: Mapping[str, Predictions],
    elsewhere: Answered | None = None,
    **changes: Any,
) -> ModelCard:
    """The original's card with `changes`, and with everything that the predictions of the new file change.

    `splits` and `answers` are those of the new file on its validation and test split.
    """
    images, predictions = splits["validation"], answers["validation"]
    fields = measure_fields(
        rule, images.samples, predictions.probabilities, predictions.familiarity, images.grids, elsewhere
    )
    card = replace(
        original.card,
        reduced_decode=None,  # it was measured with the original
        site=None,  # the threshold is chosen anew, on validation images
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        **{"versions": versions(PACKAGES) | {"made from": original.digest}, **fields._asdict(), **changes},
    )
    images, predictions = splits["test"], answers["test"]
    scores = np.stack([predictions.probabilities, predictions.familiarity], axis=1)
    tested = evaluation_of(replace(made, card=card), images.samples, scores, images.unreadable, None)
    return replace(card, metrics=card.metrics | metrics_on_test_split(tested))


def scored_again(golden: Golden, made: OnnxModel, tolerances: dict[str, float]) -> Golden:
    """The same file with the probability of the new model, computed from the bytes of the file."""
    grid = read_grid(golden.content, made.card.preprocessing)
    return replace(golden, probability=made.predict(grid[None])[0].probability, tolerances=tolerances)


def summary(
    original: OnnxModel,
    made: OnnxModel,
    path: Path,
    out: Path,
    by_split: dict[str, Differences],
    unreadable: list[dict[str, str]],
) -> Conversion:
    """Both files, whose paths are `path` and `out`, side by side."""
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
        tolerances=new.goldens[0].tolerances if new.goldens else {},
        goldens_largest=max((abs(mine.probability - theirs.probability) for theirs, mine in pairs), default=0.0),
        moved=by_split,
        metrics=new.metrics,
        original_metrics=old.metrics,
        unreadable=unreadable,
    )
