"""The watcher's regular pass over the database, for the whole installation; several processes may do it."""

from collections.abc import Callable, Sequence
from datetime import datetime

from schema.database import Database
from worker.ledger.database_clock import database_now
from worker.ledger.screening import claims, outbox
from worker.ledger.screening.outbox import Backlog, Offer
from worker.ledger.worklist import overdue, silent_run
from worker.settings import Settings


def sweep(
    database: Database,
    settings: Settings,
    enqueue: Callable[[Sequence[Offer]], None],
    backlog: Callable[[], Backlog],
    now: datetime,
) -> None:
    """Take back lapsed claims, enqueue settled studies, offer lost ones again, move overdue ones up the worklist.

    `now`: by the clock of this machine. Leases go by the database's.
    """
    claims.take_back_lapsed(database, settings, database_now(database, lambda: now))
    silent_run.follow_setting(database, now)
    overdue.advance(database, now)
    enqueue(outbox.offer(database, now))
    enqueue(outbox.reoffer(database, settings, now, backlog()))
