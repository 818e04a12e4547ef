"""Whether the unread list may have changed since a reader last asked, by one statement. Never writes."""

import hashlib
from datetime import datetime

from schema.database import Database
from worker.ledger.transactions import reading_once
from worker.worklist import holds
from worker.worklist.columns import with_moments
from worker.worklist.page_list import PAGE
from worker.worklist.signs_of_life import SIGN_MOMENTS, SIGNS, SignsOfLife, signs_in
from worker.worklist.underway import UNDERWAY_STUDIES

#: Changes that the statement does not show, such as another name of a known file, are seen after this time.
AT_LEAST_EVERY_S = 30

#: Columns of a study that the list shows and that may change while no row is added to the tables of `_ADDED`.
_SHOWN = (
    *("id", "band", "sort_key", "state", "revision", "priority", "reason", "conflict", "failure_code"),
    *("current_screening_id", "accession_number", "patient_id", "study_date"),
)

#: Each new row of these may add a study to the list, or take one away. Their newest ids show that its length may have
#: changed; the length itself PostgreSQL would have to count.
_ADDED = ("study", "arrival", "screening", "review", "withdrawal")

#: The aggregate that joins texts.
_JOINED = {"sqlite": "group_concat", "postgresql": "string_agg"}

_ROW = " || ' ' || ".join(f"COALESCE(CAST({column} AS TEXT), '')" for column in _SHOWN)
_STATEMENT = f"""
    SELECT
        (SELECT {{joined}}(shown, '|') FROM (
            SELECT {_ROW} AS shown FROM study WHERE read_at IS NULL ORDER BY band, sort_key, id LIMIT {PAGE}
        ) AS top) AS top,
        (SELECT {{joined}}(shown, '|') FROM (
            SELECT CAST(study_id AS TEXT) || ' ' || holder AS shown FROM hold WHERE {holds.IN_FORCE} ORDER BY study_id
        ) AS held) AS held,
        (SELECT MIN(asked_at) FROM study WHERE {UNDERWAY_STUDIES}) AS asked_at,
        {", ".join(f"(SELECT MAX(id) FROM {table}) AS newest_{table}" for table in _ADDED)},
        {SIGNS}
"""


def list_signature(database: Database, now: datetime) -> tuple[str, SignsOfLife]:
    """A text that differs whenever the first page of the unread list may look different; and the signs beside it."""
    statement = with_moments(_STATEMENT.format(joined=_JOINED[database.engine.dialect.name]), *SIGN_MOMENTS)
    with reading_once(database) as connection:
        row = connection.execute(statement.bindparams(*holds.MOMENTS), holds.at(now)).one()
    listed = (row.top, row.held, row.asked_at, *(row._mapping[f"newest_{table}"] for table in _ADDED))
    text = repr((listed, now.timestamp() // AT_LEAST_EVERY_S))
    return hashlib.sha256(text.encode()).hexdigest(), signs_in(row)
