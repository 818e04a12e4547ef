"""Accounts of the page, and the tokens of other systems. There is no account but those that somebody made.

Every change ends the sessions that it concerns, and is in the audit under the account that ran the program.
"""

import re
import secrets
import unicodedata
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from schema.database import Database
from schema.reading_room import AccessToken, Account, WebSession
from schema.vocabulary import AuditAction, Role
from worker.errors import Misconfigured
from worker.ledger import audit
from worker.ledger.reading_room import sessions
from worker.ledger.reading_room.sessions import hash_of
from worker.ledger.transactions import reading, retried, writing

#: Letters, digits and a few marks, so that a name can be read in a list and typed at a log-in.
NAME = re.compile(r"[^\W_][\w.@ -]{0,62}[\w.]")

#: Parts of the JSON interface that a token may open.
SCOPES = ("worklist", "studies", "health")


class AccountRefused(Misconfigured):
    """An account, a password or a token cannot be made or changed like this."""

    code = "account_refused"


@dataclass(frozen=True)
class KnownAccount:
    """An account as its administrators see it."""

    id: int
    name: str
    role: Role
    password_hash: str | None
    created_at: datetime
    disabled_at: datetime | None
    live_sessions: int = 0


@retried  # two may make it at the same time: the second is told so
def add(database: Database, name: str, role: Role, password_hash: str | None, by: str, now: datetime) -> None:
    """Make an account; without a hash only a trusted proxy can log it in. Raises AccountRefused."""
    if not NAME.fullmatch(name):
        raise AccountRefused("2 to 64 letters, digits, spaces and . @ - _, a letter or digit first").about(name)
    with writing(database) as session:
        if _folded(name) in map(_folded, session.scalars(select(Account.name))):
            raise AccountRefused("there is such an account: `worker user list`").about(name)
        session.add(audit.row(AuditAction.ACCOUNT_CHANGED, by, now, subject=name, detail=f"added as {role}"))
        session.add(Account(name=name, role=role, password_hash=password_hash, created_at=now))


def _folded(name: str) -> str:
    """A name as it counts for being the same: without case, and however its accents are encoded.

    SQLite's `lower` folds the letters of ASCII alone.
    """
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def every(database: Database, now: datetime) -> list[KnownAccount]:
    """All accounts by name, with the number of their live sessions."""
    with reading(database) as connection:
        rows = connection.execute(select(Account.__table__).order_by(Account.name)).all()
        counted = connection.execute(
            select(WebSession.account_id, func.count()).where(sessions.is_live(now)).group_by(WebSession.account_id)
        )
        live = {account_id: n for account_id, n in counted}  # noqa: C416  (a row is no pair for mypy)
    return [
        KnownAccount(r.id, r.name, r.role, r.password_hash, r.created_at, r.disabled_at, live.get(r.id, 0))
        for r in rows
    ]


def find(database: Database, name: str) -> KnownAccount | None:
    """The account with this name, disabled or not; None when there is none."""
    with reading(database) as connection:
        row = connection.execute(select(Account.__table__).where(Account.name == name)).one_or_none()
    if row is None:
        return None
    return KnownAccount(row.id, row.name, row.role, row.password_hash, row.created_at, row.disabled_at)


def count(database: Database) -> int:
    """How many accounts can log in."""
    with reading(database) as connection:
        return int(
            connection.execute(
                select(func.count()).select_from(Account).where(Account.disabled_at.is_(None))
            ).scalar_one()
        )


def disable(database: Database, name: str, by: str, now: datetime) -> None:
    """Disable an account and end its sessions. Raises AccountRefused."""
    with writing(database) as session:
        account = _account(session, name)
        session.add(audit.row(AuditAction.ACCOUNT_CHANGED, by, now, subject=name, detail="disabled"))
        account.disabled_at = now
        sessions.end_all(session, account.id, now)


def set_password(database: Database, name: str, password_hash: str, by: str, now: datetime) -> None:
    """Give an account a new password, enable it, and end its sessions. Raises AccountRefused."""
    with writing(database) as session:
        account = _account(session, name)
        session.add(audit.row(AuditAction.ACCOUNT_CHANGED, by, now, subject=name, detail="new password"))
        account.password_hash, account.disabled_at = password_hash, None
        sessions.end_all(session, account.id, now)


def end_sessions(database: Database, name: str, by: str, now: datetime) -> None:
    """End all sessions of an account. Raises AccountRefused."""
    with writing(database) as session:
        account = _account(session, name)
        session.add(audit.row(AuditAction.ACCOUNT_CHANGED, by, now, subject=name, detail="sessions ended"))
        sessions.end_all(session, account.id, now)


@retried
def make_token(database: Database, name: str, scope: tuple[str, ...], by: str, now: datetime) -> str:
    """Make a token of another system; only its hash is kept. Raises AccountRefused."""
    unknown = set(scope) - set(SCOPES)
    if unknown or not scope:
        raise AccountRefused(f"a token opens one or more of {', '.join(SCOPES)}").about(name)
    token = secrets.token_urlsafe(32)
    with writing(database) as session:
        if session.scalars(select(AccessToken.id).where(AccessToken.name == name)).first() is not None:
            raise AccountRefused("there was a token of this name: take another name").about(name)
        session.add(
            audit.row(AuditAction.ACCOUNT_CHANGED, by, now, subject=name, detail=f"token for {' '.join(scope)}")
        )
        session.add(AccessToken(name=name, token_hash=hash_of(token), scope=" ".join(scope), made_by=by, made_at=now))
    return token


def revoke_token(database: Database, name: str, by: str, now: datetime) -> None:
    """Revoke a token. Raises AccountRefused."""
    with writing(database) as session:
        token = session.scalars(select(AccessToken).where(AccessToken.name == name)).one_or_none()
        if token is None:
            raise AccountRefused("there is no such token: `worker user list`").about(name)
        session.add(audit.row(AuditAction.ACCOUNT_CHANGED, by, now, subject=name, detail="token revoked"))
        token.revoked_at = now


def token_scopes(database: Database, token: str) -> tuple[str, frozenset[str]] | None:
    """(name, scopes) of a token that is not revoked."""
    with reading(database) as connection:
        row = connection.execute(
            select(AccessToken.name, AccessToken.scope).where(
                AccessToken.token_hash == hash_of(token), AccessToken.revoked_at.is_(None)
            )
        ).one_or_none()
    return None if row is None else (row.name, frozenset(row.scope.split()))


def tokens(database: Database) -> list[tuple[str, str, datetime, datetime | None]]:
    """(name, scope, made, revoked) of every token."""
    columns = (AccessToken.name, AccessToken.scope, AccessToken.made_at, AccessToken.revoked_at)
    with reading(database) as connection:
        return [(r[0], r[1], r[2], r[3]) for r in connection.execute(select(*columns).order_by(AccessToken.name))]


def _account(session: Session, name: str) -> Account:
    account = session.scalars(select(Account).where(Account.name == name)).one_or_none()
    if account is None:
        raise AccountRefused("there is no such account: `worker user list`").about(name)
    return account
