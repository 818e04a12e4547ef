"""Whether the store may take more: free space on its disk, and the quota that the house has set for it."""

import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache

from worker.errors import StorageUnavailable
from worker.settings import Settings
from worker.store import OBJECTS, OVERLAYS, Store

#: The store is measured by listing it: no more often than this, and for no more than a twentieth of the time.
LOOK_S = 60.0
MOST_OF_THE_TIME = 1 / 20

MIB = 2**20


@dataclass
class Room:
    """How much the store holds, as last measured, and what was put since by those who tell. Safe in any thread."""

    held_bytes: int = 0
    measured_at: datetime | None = None
    made_at: datetime | None = None  #: when room was last made, or tried to be
    rest_s: float = LOOK_S
    is_patient: bool = True  #: waits for a measure; else it is taken in a thread, and the last one stands meanwhile
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def require(self, settings: Settings, store: Store, now: datetime) -> str:
        """What there is, in words. Raises StorageUnavailable when intake must stop, or the store is away."""
        free = store.free_mib()
        if free < settings.min_free_mib:
            raise StorageUnavailable(
                f"only {free:,.0f} MiB free, below SCREENING_MIN_FREE_MIB ({settings.min_free_mib}): intake stops"
                " until there is room; nothing is lost"
            ).about(store.name)
        found = f"{free:,.0f} MiB free" if free != float("inf") else "none to fill: the store is a bucket"
        quota = settings.store_quota_mib
        if quota == 0:
            return found
        self.look(store, now)
        if self.held_bytes >= quota * MIB:
            raise StorageUnavailable(
                f"the store holds {self.held_bytes / MIB:,.0f} MiB, SCREENING_STORE_QUOTA_MIB is {quota}: intake stops"
                " until studies are read, so that they can be let go of, or the quota is raised; nothing is lost"
            ).about(store.name)
        if self.measured_at is None:
            return f"{found}; what the store holds is being measured"
        return f"{found}; {self.held_bytes / MIB:,.0f} of the quota's {quota:,} MiB are taken"

    def may_be_made(self, now: datetime) -> bool:
        """Whether the last time that room was made is long enough ago, whoever measured since."""
        return self._is_past(self.made_at, now)

    def look(self, store: Store, now: datetime) -> int:
        """The bytes of the received objects and overlays in the store, measured if it is time."""
        if self._is_past(self.measured_at, now):
            if self.is_patient:
                self._measure(store, now)
            elif not self._lock.locked():
                threading.Thread(target=self._try_to_measure, args=(store, now), name="room", daemon=True).start()
        return self.held_bytes

    def _try_to_measure(self, store: Store, now: datetime) -> None:
        with suppress(StorageUnavailable):  # whoever looks next tries again
            self._measure(store, now)

    def _measure(self, store: Store, now: datetime) -> None:
        with self._lock:  # several threads take files in; one measures
            if self._is_past(self.measured_at, now):
                began_s = time.monotonic()
                held = sum(stored.size_bytes for kind in (OBJECTS, OVERLAYS) for stored in store.files(kind))
                self._note(held, now, time.monotonic() - began_s)

    def was_made(self, held_bytes: int, now: datetime, took_s: float) -> None:
        """Keep what the store held after room was made."""
        with self._lock:
            self.made_at = now
            self._note(held_bytes, now, took_s)

    def add(self, size_bytes: int) -> None:
        """Count what was put since."""
        with self._lock:
            self.held_bytes += size_bytes

    def _note(self, held_bytes: int, now: datetime, took_s: float) -> None:
        self.held_bytes, self.measured_at = held_bytes, now
        self.rest_s = max(LOOK_S, took_s / MOST_OF_THE_TIME)

    def _is_past(self, moment: datetime | None, now: datetime) -> bool:
        """Whether a moment lies far enough back; a clock that jumped makes it so."""
        return moment is None or abs(now - moment) >= timedelta(seconds=self.rest_s)


@cache
def room_of(_settings: Settings) -> Room:
    """The room of a house as this process sees it, measured once for all who only look."""
    return Room()
