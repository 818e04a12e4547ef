"""The clock of the database, which is one for all machines, and how far this machine's is from it.

Leases, of studies and of watchers, go by it. All other moments go by each machine's own, so that clocks must agree.
"""

import logging
from collections.abc import Callable
from datetime import UTC, datetime

from sqlalchemy import Connection, func, select

from schema.database import Database
from worker.ledger.clocks import now
from worker.ledger.transactions import reading_once

log = logging.getLogger(__name__)

#: How far a machine's clock may be from the database's. One that NTP sets is never as far off.
AGREE_WITHIN_S = 10.0


def database_now(database: Database, clock: Callable[[], datetime] = now) -> datetime:
    """The present time of the database's server, UTC; of `clock` where the database is a file of this machine."""
    if database.engine.dialect.name != "postgresql":
        return clock()
    with reading_once(database) as connection:
        return server_now(connection, clock)


def server_now(connection: Connection, clock: Callable[[], datetime] = now) -> datetime:
    """As `database_now`, in a transaction."""
    if connection.dialect.name != "postgresql":
        return clock()
    moment: datetime = connection.execute(select(func.clock_timestamp())).scalar_one()
    return moment.astimezone(UTC)


class ComparedClock:
    """The database's clock. One event in the log when this machine's begins to differ by more than AGREE_WITHIN_S."""

    def __init__(self, database: Database, clock: Callable[[], datetime] = now) -> None:
        self.database, self.clock = database, clock
        self.offset_s = 0.0  #: from the database's, by the last comparison; above 0: ahead, below: behind

    def __call__(self) -> datetime:
        """The present time, UTC. Raises DatabaseUnavailable."""
        did_agree, before = self.agrees, self.clock()
        moment = database_now(self.database, self.clock)
        after = self.clock()
        # the answer may have taken long: only what no wait explains is a difference
        if before > moment:
            self.offset_s = (before - moment).total_seconds()
        elif after < moment:
            self.offset_s = (after - moment).total_seconds()
        else:
            self.offset_s = 0.0
        if did_agree and not self.agrees:
            log.warning("clock_differs", extra={"offset_s": round(self.offset_s, 1)})
        return moment

    @property
    def agrees(self) -> bool:
        """Whether both clocks agreed when they were last compared."""
        return abs(self.offset_s) <= AGREE_WITHIN_S
