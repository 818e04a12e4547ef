"""Logs the outages that work meets, without stopping it: at once, then once a minute, and when the outage is over."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from worker.errors import Interrupted

T = TypeVar("T")

#: A lasting outage is logged again after this time.
AGAIN_S = 60.0


@dataclass
class OutageLog:
    """The outages of one watcher, in its log."""

    log: logging.Logger
    steady_s: Callable[[], float] = time.monotonic
    logged: dict[str, tuple[str, float]] = field(default_factory=dict)  #: work -> code, and when it was logged

    def attempt(self, name: str, work: Callable[[], T], *, is_proof: bool = True) -> T | None:
        """The result of the work; None in an outage. `is_proof`: success ends the outage of this name."""
        try:
            result = work()
        except Interrupted as error:
            self._log(name, error)
            return None
        if is_proof and name in self.logged:
            del self.logged[name]
            self.log.warning("outage_over", extra={"work": name})
        return result

    def _log(self, name: str, error: Interrupted) -> None:
        code, logged_s = self.logged.get(name, ("", 0.0))
        if code != error.code or self.steady_s() - logged_s >= AGAIN_S:
            self.logged[name] = error.code, self.steady_s()
            self.log.error("outage", extra={"work": name, "code": error.code, "reason": error.message})
