"""The rows of a result: which model gave it, and the finding for each image."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any

import numpy as np
from sqlalchemy import Connection, insert
from sqlalchemy.orm import Session

from schema import models
from worker.imaging.statistics import InputStatistics
from worker.inference.card import CARD_KEY, ModelCard
from worker.screening.rules import ImageOutcome, StudyVerdict
from worker.screening.timings import Times

#: Columns of a finding: of the prediction, and of the model's input.
PREDICTED = ("probability", "familiarity", "heatmap", "heatmap_rows", "heatmap_columns")
STATISTICS = tuple(each.name for each in fields(InputStatistics))


@dataclass(frozen=True)
class Received:
    """One received object of a claimed study: where its bytes are, and what intake knew."""

    instance_id: int
    digest: str
    left_at: str | None
    unreadable: str | None
    crc: int | None = None  #: None: taken in by an older release


@dataclass(frozen=True)
class ModelUse:
    """The model that judged, and its provider."""

    digest: str
    card: ModelCard
    provider: str


@dataclass(frozen=True)
class Claim:
    """The right to screen one revision of a study until its lease lapses. The token begins with its owner and a dot.

    The studies of a message that were claimed together share a token.
    """

    study_uid: str
    token: str
    revision: int
    claimed_at: datetime
    received: tuple[Received, ...]


@dataclass(frozen=True)
class Result:
    """What a model says of a claimed study. `outcomes` and `overlays` are in the order of `claim.received`."""

    claim: Claim
    judged: StudyVerdict
    outcomes: Sequence[ImageOutcome]
    overlays: Sequence[str | None]  #: digests in the store
    model: ModelUse
    worked_s: float  #: for how long it was worked on
    times: Times = field(default_factory=Times)


def add_model(session: Session | Connection, model: ModelUse, now: datetime) -> None:
    """Add a model's row when it is registered or gives its first result here."""
    reference = model.card.reference
    row = {
        "digest": model.digest,
        "name": model.card.name,
        "recipe": model.card.recipe,
        "threshold": model.card.operating_point.threshold,
        "card": json.loads(model.card.to_metadata()[CARD_KEY])
        | {"reference": None if reference is None else reference.to_json()},
        "first_used_at": now,
    }
    session.execute(insert(models.ModelVersion), [row])


def screening_row(
    study_id: int, asked_at: datetime, result: Result, shadow_of: str | None, now: datetime
) -> dict[str, Any]:
    """The row of a result that is recorded `now`, without its key."""
    judged, model = result.judged, result.model
    return {
        "study_id": study_id,
        "revision": result.claim.revision,
        "model_digest": model.digest,
        "verdict": judged.verdict,
        "reason": judged.reason,
        "detail": judged.detail,
        "probability": judged.probability,
        "threshold": model.card.operating_point.threshold,
        "provider": model.provider,
        "deciding_finding": judged.deciding,
        "screened_at": now,
        "screened_on": now.strftime("%Y-%m-%d"),
        "waited_s": (now - asked_at).total_seconds(),
        "worked_s": result.worked_s,
        "shadow_of": shadow_of,
        **vars(result.times),
    }


def finding_rows(screening_id: int, result: Result) -> Iterator[dict[str, Any]]:
    """The row of each image of a result."""
    for ordinal, (received, outcome, overlay) in enumerate(
        zip(result.claim.received, result.outcomes, result.overlays, strict=True)
    ):
        notes = [*outcome.instance.notes, *(f"{name}=unknown" for name in outcome.eligibility.unknowns)]
        if outcome.unreadable_because:
            notes.append(f"unreadable: {outcome.unreadable_because}")
        yield {
            "screening_id": screening_id,
            "ordinal": ordinal,
            "instance_id": received.instance_id,
            "exclusion": outcome.eligibility.exclusion,
            "unreadable": outcome.unreadable,
            "overlay_digest": overlay,
            "notes": notes,
            **_predicted(outcome),
            **(dict.fromkeys(STATISTICS) if outcome.statistics is None else vars(outcome.statistics)),
        }


def _predicted(outcome: ImageOutcome) -> dict[str, Any]:
    """The columns of a finding that the model filled."""
    if outcome.prediction is None:
        return dict.fromkeys(PREDICTED)
    heatmap = outcome.prediction.heatmap
    values = (outcome.prediction.probability, outcome.prediction.familiarity)
    return dict(zip(PREDICTED, (*values, heatmap.astype(np.dtype("<f2")).tobytes(), *heatmap.shape), strict=True))
