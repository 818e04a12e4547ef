"""Columns of the ledger as values of this program: moments, notes, the paths of files, the place of an overlay. Never
writes.
"""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Connection, TextualSelect, bindparam, text
from sqlalchemy.types import TypeEngine

from schema.database import in_lists
from schema.types import UtcDateTime
from worker.store import OVERLAYS, Store

#: Columns of a study that are moments.
STUDY_MOMENTS = (
    *("received_at", "asked_at", "settles_at", "offered_at", "lease_until", "screened_at", "read_at"),
    *("not_assessable_at", "overdue_at", "result_due_at"),
)


def with_moments(statement: str, *moments: str) -> TextualSelect:
    """SQL whose named columns are returned as aware datetimes, and notes as lists; SQLite itself stores only text."""
    types: dict[str, TypeEngine[Any]] = {name: UtcDateTime() for name in moments}
    if "notes" in statement:
        types["notes"] = JSON()
    return text(statement).columns(**types)


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


def with_iso_moments(values: dict[str, Any]) -> dict[str, Any]:
    """The values, with moments as ISO 8601."""
    return {k: v.isoformat() if isinstance(v, datetime) else v for k, v in values.items()}
