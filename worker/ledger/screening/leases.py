"""Keeps the leases of claims alive while their studies are screened, however long a decoder takes; gives them back."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime

from schema.database import Database
from worker.errors import DatabaseUnavailable
from worker.ledger.screening import claims
from worker.ledger.screening.results import Claim
from worker.settings import Settings

#: Time between two tries to give back claims while the database is not available.
DATABASE_RETRY_S = 1.0


@contextmanager
def renewing(
    database: Database,
    held: Sequence[Claim],
    settings: Settings,
    clock: Callable[[], datetime],
    at_each: Callable[[], None] = lambda: None,
) -> Iterator[None]:
    """Renew the leases every `heartbeat_s` while the block runs, after `at_each` in the same thread.

    A bug in `at_each` is raised when the block ends.
    """
    if not held:
        yield
        return
    finished = threading.Event()
    tokens = sorted({claim.token for claim in held})

    def beat() -> None:
        while not finished.wait(settings.heartbeat_s):
            at_each()
            try:
                claims.heartbeat(database, tokens, settings, clock())
            except DatabaseUnavailable:
                continue  # a lease may lapse: then the result is dropped, and another worker screens

    with ThreadPoolExecutor(1, thread_name_prefix="heartbeat") as thread:
        beating = thread.submit(beat)
        try:
            yield
        finally:
            finished.set()
    beating.result()


def give_back(database: Database, held: Sequence[Claim], until: datetime, settings: Settings) -> None:
    """Give back claims with their attempts, as `claims.give_back_all`. Tries as long as their leases last."""
    deadline = time.monotonic() + settings.lease_s
    while held:
        try:
            claims.give_back_all(database, held, until)
            return
        except DatabaseUnavailable:
            if time.monotonic() > deadline:
                return  # the leases have lapsed
            time.sleep(DATABASE_RETRY_S)
