"""Which study a reader reads next. Never writes."""

from datetime import datetime
from typing import Any

from sqlalchemy import text

from schema.database import Database
from worker.ledger.transactions import reading
from worker.worklist import holds
from worker.worklist.page_list import AFTER, PAGE, Key, in_ids

#: Of these studies, those that somebody else reads, and those that this reader has read as they are now.
_TAKEN = f"""
    SELECT study_id FROM hold WHERE study_id IN :ids AND {holds.IN_FORCE} AND holder <> :reader
    UNION
    SELECT review.study_id FROM review JOIN study ON study.id = review.study_id
    LEFT JOIN withdrawal ON withdrawal.review_id = review.id
    WHERE review.study_id IN :ids AND review.reader = :reader AND review.reviewed_at >= study.asked_at
        AND withdrawal.id IS NULL
"""


def next_unread(database: Database, reader: str, but: str, now: datetime) -> str | None:
    """The first unread study that nobody else reads and that this reader has not read as it is now; not `but`."""
    key: Key | None = None
    with reading(database) as connection:
        while True:
            where, values = _from(key)
            found = connection.execute(
                text(f"SELECT * FROM worklist{where} LIMIT :most"), values | {"most": PAGE}
            ).all()
            if not found:
                return None
            asked = {"ids": [row.study_id for row in found], "reader": reader, **holds.at(now)}
            taken = set(connection.execute(in_ids(_TAKEN).bindparams(*holds.MOMENTS), asked).scalars())
            for row in found:
                if row.study_id not in taken and row.study_uid != but:
                    return str(row.study_uid)
            key = Key(found[-1].band, found[-1].sort_key, found[-1].study_id)


def _from(key: Key | None) -> tuple[str, dict[str, Any]]:
    """The condition of the rows after a key."""
    return ("", {}) if key is None else (f" WHERE {AFTER}", dict(vars(key)))
