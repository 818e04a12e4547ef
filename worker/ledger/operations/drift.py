"""The rows of drift: the judgements of each evaluation, and the changes since the one before."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, func, select, text
from sqlalchemy.orm import Session

from schema.database import Database
from schema.operations import Drift
from schema.types import UtcDateTime
from schema.vocabulary import DriftEvent, Stability
from worker.ledger.transactions import reading, retried, writing

#: The newest evaluation's rows.
NEWEST = """
    SELECT model_digest, manufacturer, station, view, measure, value, low, high, status
    FROM drift WHERE evaluation = (SELECT MAX(evaluation) FROM drift) ORDER BY id
"""

LAST = text("SELECT judged_at FROM drift ORDER BY evaluation DESC LIMIT 1").columns(judged_at=UtcDateTime())


class Cause(NamedTuple):
    """What is judged separately: one measure of one scanner's images in one view, under one model."""

    model_digest: str
    manufacturer: str
    station: str
    view: str
    measure: str


@dataclass(frozen=True)
class Judgement:
    """The state of one measure at one evaluation."""

    cause: Cause
    images: int
    value: float
    low: float | None
    high: float
    status: Stability


@dataclass(frozen=True)
class Change:
    """A judgement that differs from the one before."""

    judgement: Judgement
    event: DriftEvent


@retried  # of two evaluations at the same time, the second reports only what the first did not
def record(database: Database, judgements: Sequence[Judgement], now: datetime) -> list[Change]:
    """Append an evaluation; returns what changed since the one before."""
    with writing(database) as session:
        open_causes = _open(session)
        number = (session.scalar(select(func.coalesce(func.max(Drift.evaluation), 0))) or 0) + 1
        changes = []
        for judged in judgements:
            event = _event(judged.status, judged.cause in open_causes)
            if event is not None:
                changes.append(Change(judged, event))
            session.add(
                Drift(
                    evaluation=number,
                    judged_at=now,
                    **judged.cause._asdict(),
                    images=judged.images,
                    value=judged.value,
                    low=judged.low,
                    high=judged.high,
                    status=judged.status,
                    event=event,
                )
            )
        return changes


def last_judged_at(database: Database) -> datetime | None:
    """When the newest evaluation with a judgement was; None when there was none."""
    with reading(database) as connection:
        return connection.execute(LAST).scalar_one_or_none()


def newest(connection: Connection) -> list[tuple[Cause, float, Stability]]:
    """Cause, value and status of the newest evaluation's rows."""
    rows = connection.execute(text(NEWEST))
    return [(Cause(*row[:5]), row.value, Stability(row.status)) for row in rows]


def _event(status: Stability, is_open: bool) -> DriftEvent | None:
    """LEFT_LIMITS beyond the outer limit, RETURNED only when steady again; None between the two limits."""
    if status is Stability.LEFT_LIMITS and not is_open:
        return DriftEvent.LEFT_LIMITS
    return DriftEvent.RETURNED if status is Stability.STEADY and is_open else None


def _open(session: Session) -> set[Cause]:
    """Causes whose newest event is LEFT_LIMITS."""
    last = (
        select(func.max(Drift.id))
        .where(Drift.event.is_not(None))
        .group_by(*(getattr(Drift, name) for name in Cause._fields))
    )
    rows = session.scalars(select(Drift).where(Drift.id.in_(last), Drift.event == DriftEvent.LEFT_LIMITS))
    return {Cause(*(getattr(row, name) for name in Cause._fields)) for row in rows}
