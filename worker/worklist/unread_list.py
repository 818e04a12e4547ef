"""The unread studies as a terminal and `--json` show them, read directly from the view. Never writes, and imports no
more than SQLAlchemy's core.

The list of the page: `page_list`.
"""

from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Row, bindparam, text

from schema.database import Database
from schema.types import UtcDateTime
from schema.vocabulary import SILENT_VERDICTS
from worker.ledger.transactions import reading
from worker.store import Store
from worker.worklist.columns import overlay_place, sources_of, with_iso_moments, with_moments
from worker.worklist.underway import UNDERWAY_STUDIES


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
        return with_iso_moments(asdict(self))


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


def _entry(place: int, row: Row[Any], sources: list[str], store: Store) -> WorklistEntry:
    fields: dict[str, Any] = {name: getattr(row, name) for name in _IN_VIEW}
    return WorklistEntry(place=place, sources=sources, heatmap=overlay_place(store, row.overlay_digest), **fields)
