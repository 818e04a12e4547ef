"""The audit rows, and the audit trail: who did what, from all tables. Rows are appended and never changed."""

import os
import pwd
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import bindparam, text

from schema.database import Database
from schema.operations import Audit
from schema.types import UtcDateTime
from schema.vocabulary import AuditAction
from worker.ledger.transactions import reading, writing

TRAIL = text(
    "SELECT happened_at, who, account, deed, study_uid, subject, detail FROM trail WHERE happened_at >= :since"
    " AND (:everything OR study_uid = :study_uid) ORDER BY happened_at"
)


@dataclass(frozen=True)
class Entry:
    """One line of the audit trail."""

    happened_at: datetime
    who: str  #: the given name, else the account
    account: str | None  #: None: the row's table has no account
    deed: str
    study_uid: str | None
    subject: str | None
    detail: str | None


def account() -> str:
    """The operating system's account that runs this program; with `sudo`, also the account that called it."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # containers run as users without a name
        name = f"uid {os.getuid()}"
    caller = os.environ.get("SUDO_USER", "").encode("utf-8", "backslashreplace").decode()
    return f"{caller} as {name}" if caller else name


def row(
    deed: AuditAction,
    by: str,
    now: datetime,
    study_uid: str | None = None,
    subject: str | None = None,
    detail: str = "",
) -> Audit:
    """A row to add. `by`: the given name; empty: no name was given."""
    own = account()
    return Audit(
        happened_at=now,
        who=by or own,
        account=own,
        deed=deed,
        study_uid=study_uid,
        subject=subject,
        detail=detail or None,
    )


def note(
    database: Database,
    deed: AuditAction,
    by: str,
    now: datetime,
    study_uids: Iterable[str | None] = (None,),
    subject: str | None = None,
    detail: str = "",
) -> None:
    """Append a row for each of these studies, before the action: an action that cannot be recorded is not done."""
    with writing(database) as session:
        session.add_all(row(deed, by, now, study_uid, subject, detail) for study_uid in study_uids)


def trail(database: Database, since: datetime, study_uid: str | None = None) -> list[Entry]:
    """The actions since then, on one study or on all, the oldest first."""
    statement = TRAIL.bindparams(bindparam("since", type_=UtcDateTime())).columns(happened_at=UtcDateTime())
    asked = {"since": since, "everything": study_uid is None, "study_uid": study_uid or ""}
    with reading(database) as connection:
        return [Entry(*found) for found in connection.execute(statement, asked)]
