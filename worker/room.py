"""Whether the store may take more: free space on its disk, and the quota that the house has set for it."""

import time
from dataclasses import dataclass
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
    """How much the store holds, as last measured, and what was put since by those who tell."""

    held_bytes: int = 0
    measured_at: datetime | None = None
    rest_s: float = LOOK_S

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
        return f"{found}; {self.held_bytes / MIB:,.0f} of the quota's {quota:,} MiB are taken"

    def is_due(self, now: datetime) -> bool:
        """Whether it is time to measure; a clock that jumped makes it so."""
        return self.measured_at is None or abs(now - self.measured_at) >= timedelta(seconds=self.rest_s)

    def look(self, store: Store, now: datetime) -> int:
        """The bytes of the received objects and overlays in the store, measured if it is time."""
        if self.is_due(now):
            began_s = time.monotonic()
            held = sum(stored.size_bytes for kind in (OBJECTS, OVERLAYS) for stored in store.files(kind))
            self.note(held, now, time.monotonic() - began_s)
        return self.held_bytes

    def note(self, held_bytes: int, now: datetime, took_s: float) -> None:
        """Keep what was measured."""
        self.held_bytes, self.measured_at = held_bytes, now
        self.rest_s = max(LOOK_S, took_s / MOST_OF_THE_TIME)

    def add(self, size_bytes: int) -> None:
        """Count what was put since."""
        self.held_bytes += size_bytes


@cache
def room_of(_settings: Settings) -> Room:
    """The room of a house as this process sees it, measured once for all who only look."""
    return Room()
