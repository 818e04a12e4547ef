"""The list as the page shows it: filters, pages by key, and what each row needs. Never writes.

The list of a terminal: `unread_list`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, bindparam, text

from schema.database import Database
from worker.ledger.transactions import reading, reading_once
from worker.worklist import holds
from worker.worklist.columns import sources_of, with_moments

PAGE = 50

# Conditions on the view are plain or scalar subqueries: PostgreSQL makes a join of EXISTS, which loses the view's
# order, and an ORDER BY of our own would have it sort the whole list.


class Show(StrEnum):
    """Which studies to list."""

    UNREAD = "unread"
    FLAGGED = "flagged"
    ATTENTION = "attention"  #: failed or unscreenable
    CONFLICT = "conflict"
    WAITING = "waiting"
    READ = "read"


#: Conditions on rows of the view `worklist`; none of them hides a row by default.
CONDITIONS: dict[Show, str] = {
    Show.UNREAD: "",
    Show.FLAGGED: "verdict = 'flagged'",
    Show.ATTENTION: "(state = 'failed' OR verdict = 'unscreenable' OR reason = 'not_assessable')",
    Show.CONFLICT: "conflict IS NOT NULL",
    Show.WAITING: "state IN ('received', 'queued', 'screening')",
}

#: A part of the name is enough: the list does not print it. Both sides are lowered by the database: SQLite lowers ASCII
#: alone.
_SCANNER = """(SELECT COUNT(*) FROM series WHERE series.study_id = {id}
    AND (LOWER(series.station_name) LIKE LOWER(:scanner) ESCAPE '!'
    OR LOWER(series.manufacturer) LIKE LOWER(:scanner) ESCAPE '!')) > 0"""

#: The columns of the view, for studies that are not on it.
_ANY_STUDY = """
    SELECT study.band, study.sort_key, study.study_uid, study.accession_number, study.patient_id, study.study_date,
        (SELECT MAX(instance.age_years) FROM series JOIN instance ON instance.series_id = series.id
         WHERE series.study_id = study.id) AS age_years,
        study.state, screening.verdict, screening.probability, screening.threshold, study.reason,
        screening.reason AS verdict_reason, screening.detail AS verdict_detail, study.conflict, study.failure_code,
        study.priority, study.revision, study.received_at, study.read_at, study.id AS study_id,
        (SELECT review.outcome FROM review WHERE review.id =
            (SELECT MAX(newest.id) FROM review AS newest WHERE newest.study_id = study.id)) AS review_outcome,
        (SELECT review.reader FROM review WHERE review.id =
            (SELECT MAX(newest.id) FROM review AS newest WHERE newest.study_id = study.id)) AS review_reader,
        (SELECT withdrawal.reason FROM withdrawal WHERE withdrawal.review_id =
            (SELECT MAX(newest.id) FROM review AS newest WHERE newest.study_id = study.id)) AS review_withdrawn
    FROM study LEFT JOIN screening ON screening.id = study.current_screening_id
"""


AFTER = "(band, sort_key, study_id) > (:band, :sort_key, :study_id)"


@dataclass(frozen=True)
class Key:
    """Where a page of the list begins: after this row."""

    band: int
    sort_key: str
    study_id: int

    def __str__(self) -> str:
        return f"{self.band}-{self.sort_key}-{self.study_id}"

    @classmethod
    def read(cls, words: str) -> "Key | None":
        """The key of a URL; None for anything else."""
        parts = words.split("-")
        if len(parts) != 3 or not all(part.isascii() and part.isdecimal() and len(part) < 33 for part in parts):
            return None
        band, sort_key, study_id = parts
        return cls(int(band) % 100, sort_key, min(int(study_id), 2**62))


@dataclass(frozen=True)
class Filter:
    """What a person asked for."""

    show: Show = Show.UNREAD
    priority: str = ""
    scanner: str = ""
    date: str = ""  #: YYYYMMDD


@dataclass(frozen=True)
class ListRow:
    """One study of the list."""

    place: int | None  #: 1 is read first; None where the list is filtered
    key: Key
    study_uid: str
    accession_number: str | None
    patient_id: str | None
    study_date: str | None
    age_years: float | None
    state: str
    verdict: str | None
    probability: float | None
    threshold: float | None
    reason: str
    verdict_reason: str | None
    verdict_detail: str | None
    conflict: str | None
    failure_code: str | None
    priority: str
    revision: int
    received_at: datetime
    is_read: bool
    review_outcome: str | None
    review_reader: str | None
    review_withdrawn: str | None
    view: str | None = None
    source: str | None = None  #: name of its first file
    files: int = 0
    digest: str | None = None  #: of the image to show small: the deciding one, else the first that can be read
    holder: str | None = None  #: who reads it now


def rows(database: Database, asked: Filter, after: Key | None, now: datetime) -> list[ListRow]:
    """A page of the list, in the order of the view; studies that were read by arrival, the newest first."""
    with reading(database) as connection:
        if asked.show is Show.READ:
            found = _read(connection, asked, after)
            return _filled(connection, found, None, now)
        condition, values = _condition(asked)
        keyed = [*condition]
        if after is not None:
            keyed.append(AFTER)
            values |= vars(after)
        where = f" WHERE {' AND '.join(keyed)}" if keyed else ""
        statement = with_moments(f"SELECT * FROM worklist{where} LIMIT :most", "received_at", "screened_at")
        found = connection.execute(statement, values | {"most": PAGE}).all()
        return _filled(connection, found, None if condition else _before(connection, after), now)


def count(database: Database, asked: Filter) -> int:
    """How many studies the filter finds."""
    condition, values = _condition(asked)
    if asked.show is Show.READ:
        statement = f"SELECT COUNT(*) FROM study WHERE {' AND '.join(['read_at IS NOT NULL', *condition])}"
    elif condition:
        statement = f"SELECT COUNT(*) FROM worklist WHERE {' AND '.join(condition)}"
    else:
        statement = "SELECT COUNT(*) FROM study WHERE read_at IS NULL"
    with reading_once(database) as connection:
        return int(connection.execute(text(statement), values).scalar_one())


def of_studies(database: Database, study_uids: Sequence[str], now: datetime) -> list[ListRow]:
    """The rows of these studies, read or not, in the order of the list."""
    statement = with_moments(
        f"{_ANY_STUDY} WHERE study.study_uid IN :uids ORDER BY study.read_at IS NOT NULL, band, sort_key, study.id",
        "received_at",
        "read_at",
    ).bindparams(bindparam("uids", expanding=True))
    with reading(database) as connection:
        found = connection.execute(statement, {"uids": list(study_uids) or [""]}).all()
        return _filled(connection, found, None, now)


def _condition(asked: Filter) -> tuple[list[str], dict[str, Any]]:
    """Conditions that hold on the view and, but for `show`, on the table of studies."""
    is_read = asked.show is Show.READ
    conditions = [] if is_read else [CONDITIONS[asked.show]]
    values: dict[str, Any] = {}
    if asked.priority:
        conditions.append("priority = :priority")
        values["priority"] = asked.priority
    if asked.date:
        conditions.append("study_date = :date")
        values["date"] = asked.date
    if asked.scanner:
        conditions.append(_SCANNER.format(id="study.id" if is_read else "worklist.study_id"))
        values["scanner"] = "%" + re.sub("([!%_])", r"!\1", asked.scanner) + "%"
    return [condition for condition in conditions if condition], values


def _read(connection: Connection, asked: Filter, after: Key | None) -> Sequence[Row[Any]]:
    condition, values = _condition(asked)
    conditions = ["study.read_at IS NOT NULL", *condition]
    if after is not None:
        conditions.append("study.id < :after")
        values["after"] = after.study_id
    statement = with_moments(
        f"{_ANY_STUDY} WHERE {' AND '.join(conditions)} ORDER BY study.id DESC LIMIT :most", "received_at", "read_at"
    )
    return connection.execute(statement, values | {"most": PAGE}).all()


def _before(connection: Connection, after: Key | None) -> int:
    """How many unread studies come up to this key."""
    if after is None:
        return 0
    statement = text(
        "SELECT COUNT(*) FROM study WHERE read_at IS NULL AND (band, sort_key, id) <= (:band, :sort_key, :study_id)"
    )
    return int(connection.execute(statement, vars(after)).scalar_one())


#: What a row has beside the columns of the view.
_BESIDE = {"place", "key", "is_read", "view", "source", "files", "digest", "holder"}
_IN_VIEW = tuple(ListRow.__dataclass_fields__.keys() - _BESIDE)


def _filled(connection: Connection, found: Sequence[Row[Any]], before: int | None, now: datetime) -> list[ListRow]:
    """The rows with their images, files and holders. `before`: how many rows come before them; None: not counted."""
    ids = [row.study_id for row in found]
    if not ids:
        return []
    images: dict[int, Row[Any]] = {}
    # the deciding image first, then those that can be read, then by arrival
    for image in connection.execute(in_ids(_IMAGES), {"ids": ids}):
        images.setdefault(image.study_id, image)
    sources = sources_of(connection, ids)
    held = connection.execute(in_ids(_HELD).bindparams(*holds.MOMENTS), {"ids": ids, **holds.at(now)})
    holders = {row.study_id: row.holder for row in held}
    return [
        _row(
            row, None if before is None else before + n, images.get(row.study_id), sources[row.study_id],
            holders.get(row.study_id),
        )
        for n, row in enumerate(found, start=1)
    ]  # fmt: skip


def _row(row: Row[Any], place: int | None, image: Row[Any] | None, files: list[str], holder: str | None) -> ListRow:
    values = row._mapping
    return ListRow(
        place=place,
        key=Key(row.band, row.sort_key, row.study_id),
        is_read=values.get("read_at") is not None,
        view=image.view if image else None,
        digest=image.digest if image and not image.unreadable else None,
        source=files[0].rsplit("/", 1)[-1] if files else None,
        files=len(files),
        holder=holder,
        **{name: values[name] for name in _IN_VIEW},
    )


_IMAGES = """
    SELECT series.study_id, instance.digest, instance.view, instance.unreadable
    FROM series JOIN instance ON instance.series_id = series.id
    JOIN study ON study.id = series.study_id
    LEFT JOIN screening ON screening.id = study.current_screening_id
    LEFT JOIN finding ON finding.screening_id = screening.id AND finding.instance_id = instance.id
    WHERE series.study_id IN :ids
    ORDER BY CASE WHEN finding.ordinal = screening.deciding_finding THEN 0 ELSE 1 END,
        CASE WHEN instance.unreadable IS NULL THEN 0 ELSE 1 END, instance.id
"""
_HELD = f"SELECT study_id, holder FROM hold WHERE study_id IN :ids AND {holds.IN_FORCE}"


def in_ids(statement: str) -> Any:
    """SQL with the parameter `:ids`, a list."""
    return text(statement).bindparams(bindparam("ids", expanding=True))
