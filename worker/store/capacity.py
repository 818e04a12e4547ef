"""Whether the store may take more: free space on its disk, and the quota in the settings."""

import math
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache

from worker.errors import StorageUnavailable
from worker.settings import Settings
from worker.store import OBJECTS, OVERLAYS, Store

#: The store is measured by listing it: not more often than this, and for at most a twentieth of the time.
MEASURE_INTERVAL_S = 60.0
LARGEST_TIME_SHARE = 1 / 20

MIB = 2**20


@dataclass
class Capacity:
    """How much the store holds: the last measurement, and the bytes added since by `add`. Safe in any thread."""

    held_bytes: int = 0
    measured_at: datetime | None = None
    pruned_at: datetime | None = None  #: when the store was last pruned, or an attempt was made
    interval_s: float = MEASURE_INTERVAL_S
    waits_for_measure: bool = True  #: False: measure in a thread, and use the last measurement meanwhile
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def require(self, settings: Settings, store: Store, now: datetime) -> str:
        """A text with the free space. Raises StorageUnavailable when intake must stop, or the store is unavailable."""
        free = store.free_mib()
        if free < settings.min_free_mib:
            raise StorageUnavailable(
                f"only {math.floor(free):,} MiB free, below SCREENING_MIN_FREE_MIB ({settings.min_free_mib}):"
                " intake stops until there is space; nothing is lost"
            ).about(store.name)
        found = f"{free:,.0f} MiB free" if free != float("inf") else "no disk limit: the store is a bucket"
        quota = settings.store_quota_mib
        if quota == 0:
            return found
        self.measured_bytes(store, now)
        if self.held_bytes >= quota * MIB:
            raise StorageUnavailable(
                f"the store holds {self.held_bytes / MIB:,.0f} MiB, SCREENING_STORE_QUOTA_MIB is {quota}: intake stops"
                " until studies are read, so that they can be pruned, or the quota is raised; nothing is lost"
            ).about(store.name)
        if self.measured_at is None:
            return f"{found}; the size of the store is being measured"
        return f"{found}; {self.held_bytes / MIB:,.0f} of the quota's {quota:,} MiB are used"

    def may_prune(self, now: datetime) -> bool:
        """Whether the last pruning is long enough ago, even if the store was measured since."""
        return self._is_due(self.pruned_at, now)

    def measured_bytes(self, store: Store, now: datetime) -> int:
        """The bytes of the received objects and overlays in the store, measured again if that is due."""
        if self._is_due(self.measured_at, now):
            if self.waits_for_measure:
                self._measure(store, now)
            elif not self._lock.locked():
                threading.Thread(
                    target=self._measure_if_reachable, args=(store, now), name="store_capacity", daemon=True
                ).start()
        return self.held_bytes

    def _measure_if_reachable(self, store: Store, now: datetime) -> None:
        with suppress(StorageUnavailable):  # the next call tries again
            self._measure(store, now)

    def _measure(self, store: Store, now: datetime) -> None:
        with self._lock:  # several threads take in files; only one measures
            if self._is_due(self.measured_at, now):
                began_s = time.monotonic()
                held = sum(stored.size_bytes for kind in (OBJECTS, OVERLAYS) for stored in store.files(kind))
                self._note(held, now, time.monotonic() - began_s)

    def note_pruned(self, held_bytes: int, now: datetime, took_s: float) -> None:
        """Keep the size of the store after pruning."""
        with self._lock:
            self.pruned_at = now
            self._note(held_bytes, now, took_s)

    def add(self, size_bytes: int) -> None:
        """Count bytes that were put since the last measurement."""
        with self._lock:
            self.held_bytes += size_bytes

    def _note(self, held_bytes: int, now: datetime, took_s: float) -> None:
        self.held_bytes, self.measured_at = held_bytes, now
        self.interval_s = max(MEASURE_INTERVAL_S, took_s / LARGEST_TIME_SHARE)

    def _is_due(self, moment: datetime | None, now: datetime) -> bool:
        """Whether a moment is long enough ago, or in the future by as much because the clock was changed."""
        return moment is None or abs(now - moment) >= timedelta(seconds=self.interval_s)


@cache
def capacity_of(_settings: Settings) -> Capacity:
    """The capacity of the store of these settings, shared by all readers in this process."""
    return Capacity()
