"""How long `worker screen` waits for a broker or database that is away, and what it says meanwhile."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from schema.database import Database
from worker.errors import BrokerUnavailable, DatabaseUnavailable

T = TypeVar("T")

#: A wait is reported after this time, and again after so long.
TELL_AFTER_S, TELL_AGAIN_S = 3.0, 30.0

#: Time between two tries.
AGAIN_S = 1.0

#: Outages that are waited for.
OUTAGES = (BrokerUnavailable, DatabaseUnavailable)


def silent(_words: str) -> None:
    """Report nothing."""


@dataclass
class OutageWait:
    """Waits for the end of an outage, up to `wait_s`; 0: not at all.

    `tell` is called with a sentence: at once when the service fails, after TELL_AFTER_S when it does not answer.
    """

    wait_s: float = 0.0
    tell: Callable[[str], None] = silent
    steady_s: Callable[[], float] = time.monotonic
    _since_s: dict[str, float] = field(default_factory=dict, init=False)  #: by work: since when it has failed
    _told: tuple[str, float] = field(default=("", 0.0), init=False)
    _broker_since_s: float | None = field(default=None, init=False)
    _database: Database | None = field(default=None, init=False)

    def attempt(self, name: str, work: Callable[[], T]) -> T | None:
        """The result of the work; None in an outage. Raises the outage's error once work of this name has failed for
        `wait_s`."""
        began_s = self.steady_s()
        try:
            result = work()
        except OUTAGES as error:
            if self.steady_s() - self._since_s.setdefault(name, began_s) >= self.wait_s:
                raise
            self.say(f"waits for up to {self.wait_s:,.0f} s: {error.message}")
            return None
        self._since_s.pop(name, None)
        return result

    def retry(self, name: str, work: Callable[[], T]) -> T:
        """The result of the work, which is tried until it succeeds. Raises as `attempt`."""
        while True:
            result = self.attempt(name, work)
            if result is not None:
                return result
            time.sleep(min(AGAIN_S, self.wait_s))

    @contextmanager
    def asking_broker(self) -> Iterator[None]:
        """Count the block as a wait for the broker, unless the database is asked meanwhile."""
        self._broker_since_s = self.steady_s()
        try:
            yield
        finally:
            self._broker_since_s = None

    @contextmanager
    def telling(self) -> Iterator[None]:
        """While the block runs, report a broker or database that does not answer."""
        stop = threading.Event()

        def look() -> None:
            while not stop.wait(TELL_AFTER_S / 6):
                self._look()

        thread = threading.Thread(target=look, name="outage-wait", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def watch(self, database: Database) -> None:
        """Report this database too when it does not answer."""
        self._database = database

    def _look(self) -> None:
        broker_since_s = self._broker_since_s  # read once: the thread that waits sets it to None
        database_s = 0.0 if self._database is None else self._database.waited_s
        broker_s = 0.0 if broker_since_s is None else self.steady_s() - broker_since_s
        if database_s >= TELL_AFTER_S:
            self.say("waits for the database, which has not answered yet", database_s)
        elif broker_s >= TELL_AFTER_S:
            self.say("waits for the broker, which has not answered yet", broker_s)

    def say(self, words: str, waited_s: float = 0.0) -> None:
        """Report a wait; the same words again only after TELL_AGAIN_S."""
        before, told_s = self._told
        if words != before or self.steady_s() - told_s >= TELL_AGAIN_S:
            self._told = words, self.steady_s()
            self.tell(f"{words} ({waited_s:,.0f} s)" if waited_s else words)
