"""Results that wait for each other, so that they are recorded in one transaction. Knows no database."""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")

#: A result waits no longer than this for the next one, unless that one takes longer; then a heartbeat records it.
LONGEST_PENDING_S = 0.5


class PendingResults(Generic[T]):
    """Collects results, and records them at a `flush`. Thread-safe.

    `record` gives for each result whether it was recorded, or the error of its own.
    """

    def __init__(
        self,
        record: Callable[[Sequence[T]], Sequence[bool | Exception]],
        longest_s: float = LONGEST_PENDING_S,
        steady_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._record, self._longest_s, self._steady_s = record, longest_s, steady_s
        self._waiting: list[T] = []
        self._since_s = 0.0
        self._lock = threading.Lock()
        self.ends: list[tuple[T, bool | Exception]] = []  #: of each result that was to be recorded

    def add(self, result: T) -> None:
        """Take a result; record all that wait when the first has waited for too long."""
        with self._lock:
            if not self._waiting:
                self._since_s = self._steady_s()
            self._waiting.append(result)
            is_late = self._steady_s() - self._since_s >= self._longest_s
        if is_late:
            self.flush()

    def flush(self) -> None:
        """Record all that wait."""
        with self._lock:
            results, self._waiting = self._waiting, []
        if results:
            self.ends += zip(results, self._record(results), strict=True)
