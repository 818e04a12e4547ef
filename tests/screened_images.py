"""Many screened images as rows without pixels, for tests of drift."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from sqlalchemy import insert

from schema import models
from schema.database import Database
from schema.vocabulary import Band, Priority, Reason, StudyState, Verdict
from tests.ledger import card
from worker.inference.reference import MEASURES, Values, make_reference
from worker.ledger.screening.results import ModelUse, add_model

#: Long before any test's clock.
LONG_AGO = datetime.fromisoformat("2026-01-01T00:00:00+00:00")


def usual(rng: np.random.Generator, sick: int, healthy: int) -> dict[str, Values]:
    """Measures of so many images with and without pneumonia, distributed as in the reference."""
    n = sick + healthy
    probability = np.concatenate([rng.beta(6, 2, sick), rng.beta(2, 6, healthy)])
    spread = {name: rng.normal(0.5, 0.1, n) for name in MEASURES[1:]}
    return {"probability": probability} | spread


def registered(database: Database, digest: str = "a" * 64, *, with_reference: bool = True) -> ModelUse:
    """A model of threshold 0.5, known to the ledger, made from 300 sick and 100 healthy."""
    measured = usual(np.random.default_rng(0), 300, 100)
    reference = make_reference(measured, [1] * 300 + [0] * 100, 0.5, "d" * 64) if with_reference else None
    use = ModelUse(digest, replace(card(), reference=reference), "CPUExecutionProvider")
    with database.writing() as session:
        add_model(session, use, LONG_AGO)
    return use


def screened(
    database: Database,
    model: str,
    measured: Mapping[str, Values],
    moments: Sequence[datetime],
    *,
    shadow_of: str | None = None,
    **header: Any,
) -> None:
    """A study with one image for each moment, screened then. `header`: of the series, and `view`."""
    view = header.pop("view", "PA")
    times = dict.fromkeys(("received_at", "asked_at", "settles_at", "overdue_at", "result_due_at"), LONG_AGO)
    with database.writing() as session:
        first = (session.query(models.Study.id).count()) + 1
        ids = range(first, first + len(moments))

        def add(table: type[models.Base], rows: list[dict[str, Any]]) -> None:
            session.execute(insert(table), rows)

        add(models.Study, [
            {"id": i, "study_uid": f"1.2.{i}", "state": StudyState.SCREENED, "revision": 1, "attempts": 0,
             "priority": Priority.ROUTINE, "asked_because": Reason.NEW_IMAGES, "band": Band.NOT_FLAGGED,
             "sort_key": str(i), "reason": Reason.BELOW_THRESHOLD, **times} for i in ids])  # fmt: skip
        add(models.Series, [{"id": i, "study_id": i, "series_uid": f"1.2.{i}.1", **header} for i in ids])
        add(models.Instance, [
            {"id": i, "series_id": i, "sop_instance_uid": f"1.2.{i}.1.1", "digest": "e" * 64, "size_bytes": 1,
             "container": "dicom", "rows": 1, "columns": 1, "superseded": False, "notes": [], "view": view,
             "received_at": LONG_AGO} for i in ids])  # fmt: skip
        add(models.Screening, [
            {"id": i, "study_id": i, "revision": 1, "model_digest": model, "verdict": Verdict.NOT_FLAGGED,
             "reason": Reason.BELOW_THRESHOLD, "detail": "", "threshold": 0.5, "provider": "CPUExecutionProvider",
             "screened_at": at, "screened_on": f"{at:%Y-%m-%d}", "waited_s": 1.0, "worked_s": 1.0,
             "shadow_of": shadow_of} for i, at in zip(ids, moments, strict=True)])  # fmt: skip
        add(models.Finding, [
            {"screening_id": i, "ordinal": 0, "instance_id": i, "notes": [],
             **{name: float(values[row]) for name, values in measured.items()}}
            for row, i in enumerate(ids)])  # fmt: skip


def over_nights(now: datetime, nights: int, a_night: int) -> list[datetime]:
    """So many moments in each of the nights that end with `now`, the oldest first."""
    return [now - timedelta(days=ago, hours=1) for ago in reversed(range(nights)) for _ in range(a_night)]
