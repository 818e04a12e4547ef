"""The result objects that an archive does not have: counted, listed for people, and tried again."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, select

from schema import models
from schema.database import Database
from schema.operations import Dispatch
from schema.vocabulary import DispatchKind, DispatchState
from worker.ledger.transactions import reading, writing

NEED_A_PERSON = (DispatchState.REFUSED, DispatchState.GIVEN_UP)


def retry(database: Database, now: datetime) -> int:
    """Make those that need a person due again, as if they were new; returns how many."""
    with writing(database) as session:
        rows = session.scalars(select(Dispatch).where(Dispatch.state.in_(NEED_A_PERSON))).all()
        for row in rows:
            row.state, row.ended_at, row.next_try_at, row.created_at = DispatchState.DUE, None, now, now
        return len(rows)


@dataclass(frozen=True)
class Stuck:
    """An object that needs a person."""

    study_uid: str
    kind: DispatchKind
    state: DispatchState
    destination: str
    ended_at: datetime | None
    answer: str | None


def needing_a_person(database: Database) -> list[Stuck]:
    """Each refused or given up object, the newest first."""
    with reading(database) as connection:
        rows = connection.execute(
            select(
                models.Study.study_uid, Dispatch.kind, Dispatch.state, Dispatch.destination, Dispatch.ended_at,
                Dispatch.answer,
            )
            .join(models.Study, models.Study.id == Dispatch.study_id)
            .where(Dispatch.state.in_(NEED_A_PERSON))
            .order_by(Dispatch.id.desc())
        )  # fmt: skip
        return [Stuck(*row) for row in rows]


def counts(connection: Connection) -> Sequence[tuple[DispatchState, int]]:
    """How many objects are in each state."""
    rows = connection.execute(select(Dispatch.state, func.count()).group_by(Dispatch.state))
    return [(state, count) for state, count in rows]


def oldest_due(connection: Connection) -> datetime | None:
    """When the oldest object that is still due was written."""
    return connection.execute(
        select(func.min(Dispatch.created_at)).where(Dispatch.state == DispatchState.DUE)
    ).scalar_one_or_none()
