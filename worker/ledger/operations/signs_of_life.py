"""When watcher, workers and receiver were last seen alive: a row for each kind of process and machine."""

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from logging import DEBUG, WARNING

from sqlalchemy import delete, insert, update
from sqlalchemy.exc import SQLAlchemyError

from schema.database import Database
from schema.operations import SignOfLife
from schema.vocabulary import Process
from worker.errors import Interrupted, SchemaOutdated, ScreeningError
from worker.ledger.clocks import now
from worker.ledger.transactions import lacks_right, retried, writing
from worker.runtime.error_place import place_of

log = logging.getLogger(__name__)

#: Time between two signs of a process.
EVERY_S = 15.0

#: How long the end of a process waits for a sign that is being written: a database that is silent must not hold it.
END_S = 1.0

#: A machine without a sign for this long is forgotten when another one of its kind appears.
FORGOTTEN_AFTER = timedelta(days=7)

LONGEST_HOST = 64


@retried
def record(database: Database, process: Process, host: str, moment: datetime) -> None:
    """Note that a process of this kind lives on this machine. Raises DatabaseUnavailable, SchemaOutdated."""
    row = (SignOfLife.process == process, SignOfLife.host == host)
    with writing(database) as session:
        if session.scalars(update(SignOfLife).where(*row).values(seen_at=moment).returning(SignOfLife.host)).all():
            return
        old = moment - FORGOTTEN_AFTER
        session.execute(delete(SignOfLife).where(SignOfLife.process == process, SignOfLife.seen_at < old))
        session.execute(insert(SignOfLife).values(process=process, host=host, seen_at=moment))


class Signs:
    """The signs of one process, at most one every EVERY_S. A sign that cannot be written stops no work."""

    def __init__(
        self, database: Database, process: Process, clock: Callable[[], datetime] = now,
        steady_s: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self.database, self.process, self.clock, self.steady_s = database, process, clock, steady_s
        self.host = socket.gethostname()[:LONGEST_HOST]
        self._next_s = -EVERY_S

    def give(self) -> None:
        """Write a sign if one is due."""
        if self.steady_s() < self._next_s:
            return
        self._next_s = self.steady_s() + EVERY_S
        try:
            record(self.database, self.process, self.host, self.clock())
        except (SQLAlchemyError, ScreeningError) as error:
            # an outage or an old database stops the work of the process too, which reports it; what the database
            # refuses this table alone is reported here only
            is_reported = isinstance(error, (Interrupted, SchemaOutdated)) and not lacks_right(error)
            log.log(DEBUG if is_reported else WARNING, "no_sign_of_life", extra={"kind": place_of(error)})

    @contextmanager
    def given(self, is_alive: Callable[[], bool] = lambda: True) -> Iterator[None]:
        """Give signs from a thread while the block runs and `is_alive` holds."""
        stop = threading.Event()
        thread = self._start(stop, is_alive)
        try:
            yield
        finally:
            stop.set()
            thread.join(END_S)

    def start(self) -> None:
        """Give signs from a thread until the process ends."""
        self._start(threading.Event(), lambda: True)

    def _start(self, stop: threading.Event, is_alive: Callable[[], bool]) -> threading.Thread:
        thread = threading.Thread(target=self._give_until, args=(stop, is_alive), name="signs of life", daemon=True)
        thread.start()
        return thread

    def _give_until(self, stop: threading.Event, is_alive: Callable[[], bool]) -> None:
        while not stop.is_set():
            if is_alive():
                self.give()
            stop.wait(EVERY_S)
