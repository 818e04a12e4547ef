"""Failed log-ins: five in 15 minutes, for a name or from an address, lock that for 15 minutes."""

import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Connection, delete, func, select

from schema.database import Database
from schema.reading_room import LoginFailure
from schema.vocabulary import AuditAction
from worker.ledger import audit
from worker.ledger.transactions import reading, writing

MOST = 5
WINDOW = timedelta(minutes=15)
LOCK = timedelta(minutes=15)

#: Rows older than this serve nothing: the audit keeps that they happened.
KEPT = timedelta(days=1)


def note(database: Database, name: str, address: str, account: str | None, now: datetime) -> None:
    """Record a failure. `account`: the name if there is such an account; what else was typed may be a password."""
    with writing(database) as session:
        who = account or "unknown name"
        session.add(audit.row(AuditAction.LOGIN_FAILED, who, now, detail=f"from {address}"))
        session.execute(delete(LoginFailure).where(LoginFailure.failed_at < now - KEPT))
        session.add(LoginFailure(name_hash=_hash(name), address=address[:64], failed_at=now))


def is_locked(database: Database, name: str, address: str, now: datetime) -> bool:
    """Whether log-ins for this name, known or not, or from this address are refused now."""
    conditions = (LoginFailure.name_hash == _hash(name), LoginFailure.address == address[:64])
    return any(_locks(_latest(database, condition, now), now) for condition in conditions)


def count_since(connection: Connection, since: datetime) -> int:
    """How many log-ins failed since then."""
    statement = select(func.count()).select_from(LoginFailure).where(LoginFailure.failed_at > since)
    return int(connection.execute(statement).scalar_one())


def _latest(database: Database, condition: ColumnElement[bool], now: datetime) -> Sequence[datetime]:
    statement = (
        select(LoginFailure.failed_at)
        .where(condition, LoginFailure.failed_at > now - LOCK - WINDOW)
        .order_by(LoginFailure.failed_at)
    )
    with reading(database) as connection:
        return connection.execute(statement).scalars().all()


def _locks(failures: Sequence[datetime], now: datetime) -> bool:
    """Whether five of these lie within the window, and the last of them within the time of the lock."""
    return any(
        last - first <= WINDOW and now - last < LOCK
        for first, last in zip(failures, failures[MOST - 1 :], strict=False)
    )


def _hash(name: str) -> str:
    return hashlib.sha256(name.casefold().encode()).hexdigest()
