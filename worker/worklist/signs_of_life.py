"""When each process of the installation was last seen alive, and which are missing. Never writes.

The ledger writes the signs: `worker.ledger.operations.signs_of_life`.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row

from schema.database import Database
from schema.vocabulary import Process
from worker.ledger.clocks import CLOCKS_DIFFER_S
from worker.ledger.transactions import reading_once
from worker.worklist.columns import with_moments

#: A process without a sign of life for this long is missing. It gives one every 15 s; a slow listing of the inbox may
#: take a minute.
MISSED_AFTER = timedelta(minutes=2)

#: A sign that is further ahead was given before the clock was set back, and says nothing.
FURTHEST_AHEAD = timedelta(seconds=CLOCKS_DIFFER_S)


@dataclass(frozen=True)
class SignsOfLife:
    """When the last file and result came, when each process was last seen alive, and how many files are unreadable."""

    last_file_at: datetime | None
    last_result_at: datetime | None
    quarantined: int
    seen_at: dict[Process, datetime]  #: the newest of each kind; a kind that was never seen is not there

    def missing(self, now: datetime) -> dict[Process, datetime | None]:
        """Processes without a sign of life for MISSED_AFTER, and when they gave the last one. A receiver is expected
        only where one has run before."""
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
