"""Holds: who reads a study on the page now. A hold ends by itself after ten minutes without input; it blocks no worker
and hides no study."""

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, select, update

from schema.database import Database
from schema.models import Study
from schema.reading_room import Hold
from schema.vocabulary import AuditAction
from worker.ledger import audit
from worker.ledger.clocks import CLOCKS_DIFFER_S
from worker.ledger.reading_room.sessions import LiveSession
from worker.ledger.transactions import retried, writing

LASTS = timedelta(minutes=10)


def latest_end(now: datetime) -> datetime:
    """When a hold ends at the latest. One that ends later was written before the clock was set back, and is over."""
    return now + LASTS + timedelta(seconds=CLOCKS_DIFFER_S)


@dataclass(frozen=True)
class Held:
    """The hold on a study after it was opened."""

    holder: str
    taken_at: datetime
    opening: str | None  #: of this opened page; None: somebody else holds the study


@retried
def take(database: Database, study_id: int, live: LiveSession, now: datetime) -> Held:
    """Hold a study that nobody else holds; else say who does. The time it was taken stays when it is opened again."""
    opening = secrets.token_hex(8)
    with writing(database) as session:
        hold = session.scalars(select(Hold).where(Hold.study_id == study_id).with_for_update()).one_or_none()
        is_in_force = hold is not None and now < hold.until <= latest_end(now)
        if hold is not None and is_in_force and hold.holder != live.name:
            return Held(hold.holder, hold.taken_at, None)
        hold = hold or Hold(study_id=study_id)
        if not is_in_force:
            hold.taken_at = now
        hold.holder, hold.session_id, hold.opening, hold.until = live.name, live.id, opening, now + LASTS
        session.add(hold)
        return Held(live.name, hold.taken_at, opening)


def take_over(database: Database, study_id: int, live: LiveSession, now: datetime) -> None:
    """Take a study over from whoever holds it; the audit says from whom."""
    with writing(database) as session:
        hold = session.scalars(select(Hold).where(Hold.study_id == study_id).with_for_update()).one_or_none()
        if hold is None or hold.holder == live.name:
            return
        uid = session.scalars(select(Study.study_uid).where(Study.id == study_id)).one()
        row = audit.row(AuditAction.HOLD_TAKEN_OVER, live.name, now, uid, detail=f"from {hold.holder}")
        session.add(row)
        hold.holder, hold.session_id, hold.opening = live.name, live.id, secrets.token_hex(8)
        hold.taken_at, hold.until = now, now + LASTS


def prolong(database: Database, study_id: int, live: LiveSession, now: datetime) -> bool:
    """Prolong an own hold after input on its page; False when it is somebody else's, or nobody's, by now."""
    with writing(database) as session:
        done = session.execute(
            update(Hold)
            .where(Hold.study_id == study_id, Hold.holder == live.name, Hold.until > now)
            .values(until=now + LASTS)
            .returning(Hold.study_id)
        )
        return done.first() is not None


def release(database: Database, study_id: int, live: LiveSession, opening: str | None = None) -> None:
    """Release an own hold; with `opening`, only if no later page of this person holds it."""
    statement = delete(Hold).where(Hold.study_id == study_id, Hold.holder == live.name)
    with writing(database) as session:
        session.execute(statement if opening is None else statement.where(Hold.opening == opening))
