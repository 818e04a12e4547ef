"""Limits log lines that any peer can cause: one a second for each kind and peer, with the number left out."""

import threading
import time
from collections.abc import Callable, Hashable

#: One line of a key in this time.
EVERY_S = 1.0

#: Keys that are known at once; while all are younger than EVERY_S, further ones share one key.
MOST_KEYS = 256

OTHERS = "others"


class LogLimit:
    """Says which lines are logged. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._logged: dict[Hashable, tuple[float, int]] = {}  # when last, and how many were left out since
        self._lock = threading.Lock()

    def left_out(self, *key: Hashable) -> int | None:
        """Count a line. Returns how many were left out since the last logged one; None: leave this one out too."""
        with self._lock:
            now = self._clock()
            known: Hashable = key if key in self._logged or self._has_room(now) else OTHERS
            at, left_out = self._logged.get(known, (now - EVERY_S, 0))
            if now - at < EVERY_S:
                self._logged[known] = at, left_out + 1
                return None
            self._logged.pop(known, None)
            self._logged[known] = now, 0  # at the end: the oldest stand first
            return left_out

    def _has_room(self, now: float) -> bool:
        if len(self._logged) < MOST_KEYS:
            return True
        oldest = next(iter(self._logged))
        if now - self._logged[oldest][0] < EVERY_S:
            return False
        del self._logged[oldest]
        return True
