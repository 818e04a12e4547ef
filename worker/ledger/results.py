"""The rows of a result: which model gave it, and the finding for each image."""

import json
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from sqlalchemy.orm import Session

from schema import models
from worker.inference.card import CARD_KEY, ModelCard
from worker.screening.rules import ImageOutcome


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


def add_model(session: Session, model: ModelUse, now: datetime) -> None:
    """Add a model's row when it is registered or gives its first result here."""
    reference = model.card.reference
    session.add(
        models.ModelVersion(
            digest=model.digest,
            name=model.card.name,
            recipe=model.card.recipe,
            threshold=model.card.operating_point.threshold,
            card=json.loads(model.card.to_metadata()[CARD_KEY])
            | {"reference": None if reference is None else reference.to_json()},
            first_used_at=now,
        )
    )


def finding(ordinal: int, received: Received, outcome: ImageOutcome, overlay: str | None) -> models.Finding:
    """The row of one image; `overlay` is its digest in the store."""
    notes = [*outcome.instance.notes, *(f"{name}=unknown" for name in outcome.eligibility.unknowns)]
    if outcome.unreadable_because:
        notes.append(f"unreadable: {outcome.unreadable_because}")
    row = models.Finding(
        ordinal=ordinal,
        instance_id=received.instance_id,
        exclusion=outcome.eligibility.exclusion,
        unreadable=outcome.unreadable,
        overlay_digest=overlay,
        notes=notes,
    )
    if outcome.prediction is not None:
        heatmap = outcome.prediction.heatmap
        row.probability = outcome.prediction.probability
        row.familiarity = outcome.prediction.familiarity
        row.heatmap = heatmap.astype(np.dtype("<f2")).tobytes()
        row.heatmap_rows, row.heatmap_columns = heatmap.shape
    if outcome.statistics is not None:
        for name, value in vars(outcome.statistics).items():
            setattr(row, name, value)
    return row
