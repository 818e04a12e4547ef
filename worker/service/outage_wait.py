"""How long a batch waits for a broker or database that is not available, and what it says meanwhile."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from schema.database import Database
from worker.errors import BrokerUnavailable, DatabaseUnavailable

T = TypeVar("T")

#: A wait is told after this time, and again after so long.
TELL_AFTER_S, TELL_AGAIN_S = 3.0, 30.0

#: Time between two tries.
AGAIN_S = 1.0

#: Outages that are waited for.
OUTAGES = (BrokerUnavailable, DatabaseUnavailable)


def silent(_words: str) -> None:
    """Tell nobody."""


@dataclass
class OutageWait:
    """Waits for the end of an outage, up to `wait_s`; 0: not at all.

    `tell` gets what is waited for: at once when it fails, soon when it is silent.
    """

    wait_s: float = 0.0
    tell: Callable[[str], None] = silent
    steady_s: Callable[[], float] = time.monotonic
    _since_s: dict[str, float] = field(default_factory=dict, init=False)  #: by work: since when it has failed
    _told: tuple[str, float] = field(default=("", 0.0), init=False)
    _broker_since_s: float | None = field(default=None, init=False)
    _database: Database | None = field(default=None, init=False)

    def attempt(self, name: str, work: Callable[[], T]) -> T | None:
        """What the work gives; None in an outage. Raises the error of one in which work of this name failed for
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
        """What the work gives, tried again and again. Raises as `attempt`."""
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
        """While the block runs, tell of what does not answer."""
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
        """Tell of this database too."""
        self._database = database

    def _look(self) -> None:
        if self._database is not None and (waited_s := self._database.waited_s) >= TELL_AFTER_S:
            self.say("waits for the database, which has not answered yet", waited_s)
        elif (since_s := self._broker_since_s) is not None and (waited_s := self.steady_s() - since_s) >= TELL_AFTER_S:
            self.say("waits for the broker, which has not answered yet", waited_s)

    def say(self, words: str, waited_s: float = 0.0) -> None:
        """Tell of a wait, and again only after a while."""
        before, told_s = self._told
        if words != before or self.steady_s() - told_s >= TELL_AGAIN_S:
            self._told = words, self.steady_s()
            self.tell(f"{words} ({waited_s:,.0f} s)" if waited_s else words)
