"""What people see, read directly from the views. Never writes, and imports no more than SQLAlchemy's core."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import JSON, Connection, Row, TextualSelect, bindparam, text
from sqlalchemy.types import TypeEngine

from schema.database import Database, in_lists
from schema.types import UtcDateTime
from schema.vocabulary import SILENT_VERDICTS, UNDERWAY, Process
from worker.ledger.clocks import CLOCKS_DIFFER_S
from worker.ledger.transactions import reading, reading_once
from worker.store import OVERLAYS, Store

#: A study that still waits for a result, as a condition in SQL.
UNDERWAY_STUDIES = "state IN ({})".format(", ".join(f"'{state}'" for state in UNDERWAY))

#: A process without a sign of life for this long is missed. One is given every 15 s; a slow listing of the inbox may
#: take a minute.
MISSED_AFTER = timedelta(minutes=2)

#: A sign that is further ahead was given before the clock was set back, and says nothing.
FURTHEST_AHEAD = timedelta(seconds=CLOCKS_DIFFER_S)

#: Columns of a study that are moments.
STUDY_MOMENTS = (
    *("received_at", "asked_at", "settles_at", "offered_at", "lease_until", "screened_at", "read_at"),
    *("not_assessable_at", "overdue_at", "result_due_at"),
)


@dataclass(frozen=True)
class WorklistEntry:
    """One row of views/worklist.sql, with the files it came from."""

    place: int  #: 1 is read first
    band: int
    study_uid: str
    accession_number: str | None
    patient_id: str | None
    study_date: str | None  #: YYYYMMDD
    age_years: float | None
    state: str
    verdict: str | None
    probability: float | None
    threshold: float | None
    reason: str  #: why it has this place
    verdict_reason: str | None
    verdict_detail: str | None
    conflict: str | None
    failure_code: str | None
    priority: str
    sources: list[str]  #: paths as dropped
    heatmap: str | None  #: path or URL of the deciding image's overlay
    received_at: datetime
    screened_at: datetime | None
    model_digest: str | None
    review_outcome: str | None  #: of a study that is on the list although it was read
    review_reader: str | None
    review_withdrawn: str | None  #: why that verdict was taken back
    is_silent: bool = False  #: it has a verdict that a silent run does not show

    def to_json(self) -> dict[str, Any]:
        """Plain values; moments as ISO 8601 in UTC."""
        return plain(asdict(self))


@dataclass(frozen=True)
class QuarantinedFile:
    """A file that could not be read, and why."""

    path: str
    code: str
    message: str
    seen_at: datetime  #: last
    times: int  #: how often it was dropped
    digest: str | None
    study_uid: str | None

    def to_json(self) -> dict[str, Any]:
        """Plain values; moments as ISO 8601 in UTC."""
        return plain(asdict(self))


#: What a silent run shows of SILENT_VERDICTS.
SILENCED: dict[str, Any] = {
    **dict.fromkeys(("verdict", "probability", "threshold", "verdict_reason", "verdict_detail", "heatmap")),
    "is_silent": True,
}

#: The fields of WorklistEntry that the view has.
_IN_VIEW = tuple(
    name for name in WorklistEntry.__dataclass_fields__ if name not in ("place", "sources", "heatmap", "is_silent")
)


def entries(database: Database, store: Store, limit: int | None = None) -> list[WorklistEntry]:
    """The worklist from the top: every unread study, at most `limit` of them."""
    statement = "SELECT * FROM worklist" if limit is None else "SELECT * FROM worklist LIMIT :limit"
    with reading(database) as connection:
        rows = connection.execute(
            with_moments(statement, "received_at", "screened_at"), {} if limit is None else {"limit": limit}
        ).all()
        sources = sources_of(connection, [row.study_id for row in rows])
    found = [_entry(place, row, sources[row.study_id], store) for place, row in enumerate(rows, start=1)]
    is_silent = database.is_silent_run
    return [replace(entry, **SILENCED) if is_silent and entry.verdict in SILENT_VERDICTS else entry for entry in found]


def count(database: Database) -> int:
    """How many studies are unread."""
    with reading(database) as connection:
        return int(connection.execute(text("SELECT COUNT(*) FROM study WHERE read_at IS NULL")).scalar_one())


def is_stale(database: Database, now: datetime) -> bool:
    """Whether an unread study is due to move to another band and no sweep has moved it yet."""
    statement = text(
        # two queries, each with its own index; `+` stops the planner from reading the whole list by its band
        "SELECT 1 WHERE EXISTS (SELECT 1 FROM study WHERE read_at IS NULL AND overdue_at <= :now AND +band > 2)"
        " OR EXISTS (SELECT 1 FROM study WHERE read_at IS NULL AND result_due_at <= :now AND +band >= 5"
        f" AND {UNDERWAY_STUDIES})"
    ).bindparams(bindparam("now", type_=UtcDateTime()))
    with reading(database) as connection:
        return connection.execute(statement, {"now": now}).first() is not None


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


@dataclass(frozen=True)
class SignsOfLife:
    """When something last came of the processes and when each was last seen alive; how many files nobody could read."""

    last_file_at: datetime | None
    last_result_at: datetime | None
    quarantined: int
    seen_at: dict[Process, datetime]  #: the newest of each kind; a kind that was never seen is not there

    def missing(self, now: datetime) -> dict[Process, datetime | None]:
        """Processes without a sign of life for MISSED_AFTER, and when they gave the last one. A receiver is missed only
        where there was one."""
        expected = [kind for kind in Process if kind is not Process.RECEIVER or kind in self.seen_at]
        seen = {kind: self.seen_at.get(kind) for kind in expected}
        return {kind: at for kind, at in seen.items() if at is None or not -FURTHEST_AHEAD <= now - at <= MISSED_AFTER}


#: The columns of SignsOfLife, as subqueries of one statement.
SIGNS = """
    (SELECT seen_at FROM arrival ORDER BY id DESC LIMIT 1) AS last_file_at,
    (SELECT screened_at FROM screening ORDER BY id DESC LIMIT 1) AS last_result_at,
    (SELECT COUNT(*) FROM arrival WHERE state = 'quarantined') AS quarantined,
""" + ",".join(f"(SELECT MAX(seen_at) FROM sign_of_life WHERE process = '{kind}') AS {kind}" for kind in Process)
SIGN_MOMENTS = ("last_file_at", "last_result_at", *Process)


def signs_of_life(database: Database) -> SignsOfLife:
    """The newest file and result, the newest sign of each process, and the number of quarantined files."""
    with reading_once(database) as connection:
        return signs_in(connection.execute(with_moments(f"SELECT {SIGNS}", *SIGN_MOMENTS)).one())


def signs_in(row: Row[Any]) -> SignsOfLife:
    """The signs of a row that has the columns SIGNS."""
    seen_at = {kind: at for kind in Process if (at := getattr(row, kind)) is not None}
    return SignsOfLife(row.last_file_at, row.last_result_at, row.quarantined, seen_at)


def quarantine(database: Database) -> list[QuarantinedFile]:
    """Every quarantined file once, the newest first."""
    statement = """
        SELECT arrival.path, arrival.code, arrival.message, MAX(arrival.seen_at) AS seen_at, COUNT(*) AS times,
            arrival.digest, study.study_uid
        FROM arrival LEFT JOIN study ON study.id = arrival.study_id
        WHERE arrival.state = 'quarantined'
        GROUP BY arrival.path, arrival.code, arrival.message, arrival.digest, study.study_uid
        ORDER BY MAX(arrival.id) DESC
    """
    with reading(database) as connection:
        return [QuarantinedFile(*row) for row in connection.execute(with_moments(statement, "seen_at"))]


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


def with_moments(statement: str, *moments: str) -> TextualSelect:
    """SQL whose named columns are returned as aware datetimes, and notes as lists; SQLite itself stores only text."""
    types: dict[str, TypeEngine[Any]] = {name: UtcDateTime() for name in moments}
    if "notes" in statement:
        types["notes"] = JSON()
    return text(statement).columns(**types)


def _entry(place: int, row: Row[Any], sources: list[str], store: Store) -> WorklistEntry:
    fields: dict[str, Any] = {name: getattr(row, name) for name in _IN_VIEW}
    return WorklistEntry(place=place, sources=sources, heatmap=overlay_place(store, row.overlay_digest), **fields)


def overlay_place(store: Store, digest: str | None) -> str | None:
    """Path or URL of an overlay."""
    return store.place(OVERLAYS, digest) if digest else None


def sources_of(connection: Connection, study_ids: Sequence[int]) -> dict[int, list[str]]:
    """The paths of each study's files as dropped, each path once, in the order they came."""
    statement = text("SELECT study_id, path FROM arrival WHERE study_id IN :ids ORDER BY id").bindparams(
        bindparam("ids", expanding=True)
    )
    sources: dict[int, dict[str, None]] = defaultdict(dict)
    for ids in in_lists(study_ids):
        for study_id, path in connection.execute(statement, {"ids": list(ids)}):
            sources[study_id][path] = None
    return defaultdict(list, {study_id: list(paths) for study_id, paths in sources.items()})


def plain(values: dict[str, Any]) -> dict[str, Any]:
    """Moments as ISO 8601."""
    return {k: v.isoformat() if isinstance(v, datetime) else v for k, v in values.items()}
