"""Sessions of the page as rows: begun at log-in, ended at once by log-out, disabling or a new password.

A session ends 20 minutes after the person's last input, and 12 hours after the log-in in any case.
"""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, delete, select, update
from sqlalchemy.orm import Session

from schema.database import Database
from schema.reading_room import Account, Hold, WebSession
from schema.vocabulary import AuditAction, Role
from worker.ledger import audit
from worker.ledger.clocks import CLOCKS_DIFFER_S
from worker.ledger.transactions import reading_once, writing

IDLE = timedelta(minutes=20)
LONGEST = timedelta(hours=12)

#: Input within this time after the last one that was stored is not stored: a session may end so much earlier.
STEP = timedelta(seconds=15)


@dataclass(frozen=True)
class LiveSession:
    """Who asks: an account that has logged in and was active since."""

    id: int
    account_id: int
    name: str
    role: Role
    used_at: datetime


def begin(database: Database, account_id: int, name: str, address: str, now: datetime) -> str:
    """Begin a session; returns its token, of which only the hash is kept."""
    token = secrets.token_urlsafe(32)
    with writing(database) as session:
        session.add(audit.row(AuditAction.LOGGED_IN, name, now, detail=f"from {address}"))
        session.add(
            WebSession(
                token_hash=hash_of(token), account_id=account_id, address=address[:64], began_at=now, used_at=now
            )
        )
    return token


def find(database: Database, token: str, now: datetime) -> LiveSession | None:
    """The live session of a token, whose account is not disabled."""
    statement = (
        select(WebSession.id, WebSession.account_id, Account.name, Account.role, WebSession.used_at)
        .join(Account, Account.id == WebSession.account_id)
        .where(WebSession.token_hash == hash_of(token), is_live(now), Account.disabled_at.is_(None))
    )
    with reading_once(database) as connection:
        row = connection.execute(statement).one_or_none()
    return None if row is None else LiveSession(*row)


def note_input(database: Database, live: LiveSession, now: datetime) -> None:
    """Prolong a session, because its person did something."""
    if now - live.used_at < STEP:
        return
    with writing(database) as session:
        session.execute(
            update(WebSession).where(WebSession.id == live.id, WebSession.ended_at.is_(None)).values(used_at=now)
        )


def end(database: Database, live: LiveSession, now: datetime) -> None:
    """Log out: end a session and release what it holds."""
    with writing(database) as session:
        session.add(audit.row(AuditAction.LOGGED_OUT, live.name, now))
        session.execute(update(WebSession).where(WebSession.id == live.id).values(ended_at=now))
        session.execute(delete(Hold).where(Hold.session_id == live.id))


def end_all(session: Session, account_id: int, now: datetime) -> None:
    """End every session of an account and release what they hold."""
    of_account = select(WebSession.id).where(WebSession.account_id == account_id)
    session.execute(delete(Hold).where(Hold.session_id.in_(of_account)))
    session.execute(
        update(WebSession)
        .where(WebSession.account_id == account_id, WebSession.ended_at.is_(None))
        .values(ended_at=now)
    )


def is_live(now: datetime) -> ColumnElement[bool]:
    """The condition of a session that has not ended. One that was used further ahead than clocks differ was used before
    the clock was set back, and counts as over: nobody knows how long it was idle."""
    was_used = WebSession.used_at.between(now - IDLE, now + timedelta(seconds=CLOCKS_DIFFER_S))
    return WebSession.ended_at.is_(None) & was_used & (WebSession.began_at > now - LONGEST)


def hash_of(token: str) -> str:
    """SHA-256 of a random token: it has 256 bits, so a slow hash would add nothing."""
    return hashlib.sha256(token.encode()).hexdigest()
