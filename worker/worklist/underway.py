"""Which studies still wait for a result, how long they have waited, and how others have ended. Never writes."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import bindparam, text

from schema.database import Database, in_lists
from schema.types import UtcDateTime
from schema.vocabulary import UNDERWAY
from worker.ledger.transactions import reading, reading_once
from worker.worklist.columns import with_moments

#: A study that still waits for a result, as a condition in SQL.
UNDERWAY_STUDIES = "state IN ({})".format(", ".join(f"'{state}'" for state in UNDERWAY))


def longest_wait_s(database: Database, now: datetime) -> float:
    """How long the oldest study without a result has waited, without archives; 0 when none waits.

    Only this number shows a worker that runs but takes no messages.
    """
    statement = with_moments(
        f"SELECT MIN(asked_at) AS asked_at FROM study WHERE {UNDERWAY_STUDIES}"
        " AND priority != 'nightly' AND asked_because != 'rescreened'",
        "asked_at",
    )
    with reading_once(database) as connection:
        oldest = connection.execute(statement).scalar_one()
    return 0.0 if oldest is None else max(0.0, (now - oldest).total_seconds())


def pending(database: Database) -> list[str]:
    """The studies that have no result for their newest images yet."""
    statement = text(f"SELECT study_uid FROM study WHERE {UNDERWAY_STUDIES} ORDER BY id")
    with reading(database) as connection:
        return [str(uid) for uid in connection.execute(statement).scalars()]


def nightly_underway(database: Database) -> int:
    """How many studies of archives and re-screenings have no result yet."""
    statement = text(
        f"SELECT COUNT(*) FROM study WHERE {UNDERWAY_STUDIES}"
        " AND (priority = 'nightly' OR asked_because = 'rescreened')"
    )
    with reading(database) as connection:
        return int(connection.execute(statement).scalar_one())


def judged_by_others(database: Database, digest: str, since: datetime, verdict: str | None) -> list[str]:
    """SCREENED studies whose verdict is of another model than this one, the newest first."""
    statement = text(
        "SELECT study.study_uid FROM study JOIN screening ON screening.id = study.current_screening_id"
        " WHERE study.state = 'screened' AND screening.model_digest != :digest AND study.received_at >= :since"
        " AND (CAST(:verdict AS TEXT) IS NULL OR screening.verdict = :verdict) ORDER BY study.received_at DESC"
    ).bindparams(bindparam("since", type_=UtcDateTime()))
    with reading(database) as connection:
        found = connection.execute(statement, {"digest": digest, "since": since, "verdict": verdict})
        return [str(uid) for uid in found.scalars()]


def states(database: Database, study_uids: Sequence[str]) -> dict[str, int]:
    """How many of these studies are in each state."""
    return _counted(database, "SELECT state, COUNT(*) FROM study WHERE study_uid IN :uids GROUP BY state", study_uids)


def verdicts(database: Database, study_uids: Sequence[str]) -> dict[str, int]:
    """How many of these studies have each verdict; failed ones and those without a result count by their state."""
    statement = """
        SELECT CASE WHEN study.state = 'screened' THEN screening.verdict ELSE study.state END AS outcome, COUNT(*)
        FROM study LEFT JOIN screening ON screening.id = study.current_screening_id
        WHERE study_uid IN :uids GROUP BY outcome
    """
    return _counted(database, statement, study_uids)


def _counted(database: Database, sql: str, study_uids: Sequence[str]) -> dict[str, int]:
    counted: dict[str, int] = defaultdict(int)
    statement = text(sql).bindparams(bindparam("uids", expanding=True))
    with reading(database) as connection:
        for uids in in_lists(study_uids):
            for what, n in connection.execute(statement, {"uids": list(uids)}):
                counted[what] += n
    return dict(counted)
