"""Whether the unread list may have changed since a reader last asked, without making its rows. Never writes."""

import hashlib
from datetime import datetime

from sqlalchemy import text

from schema.database import Database
from worker.ledger.transactions import reading
from worker.worklist.listing import NOW, PAGE
from worker.worklist.queries import UNDERWAY_STUDIES

#: What no query here sees, such as another name of a file that was there already, is seen after this time.
AT_LEAST_EVERY_S = 30

_TOP = "SELECT * FROM study WHERE read_at IS NULL ORDER BY band, sort_key, id LIMIT :most"
_HELD = "SELECT study_id, holder FROM hold WHERE until > :now ORDER BY study_id"
_BESIDE = f"""
    SELECT (SELECT COUNT(*) FROM study WHERE read_at IS NULL), (SELECT MAX(id) FROM review),
        (SELECT MAX(id) FROM withdrawal), (SELECT MIN(asked_at) FROM study WHERE {UNDERWAY_STUDIES})
"""


def signature(database: Database, now: datetime) -> str:
    """Another text whenever the first page of the unread list may look another way."""
    with reading(database) as connection:
        seen = [
            connection.execute(text(_TOP), {"most": PAGE}).all(),
            connection.execute(text(_HELD).bindparams(NOW), {"now": now}).all(),
            connection.execute(text(_BESIDE)).all(),
        ]
    return hashlib.sha256(repr((seen, now.timestamp() // AT_LEAST_EVERY_S)).encode()).hexdigest()
