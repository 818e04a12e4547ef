"""Makes room in the store: by age, down to a quota, and of files that no row claims. Never of an unread study."""

import math
import time
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from schema.database import Database
from schema.vocabulary import AuditAction
from worker.ledger import audit, retention
from worker.settings import Settings
from worker.store import OBJECTS, OVERLAYS, Store
from worker.store.capacity import Capacity

#: A file that no row claims is left this long: its row may still be on its way.
ORPHAN_AGE = timedelta(days=1)

#: In whose name the watcher makes room.
SETTING = "setting SCREENING_STORE_QUOTA_MIB"

#: Shares of the quota: the watcher makes room from the one on, down to the other, so that intake need not stop.
NEAR, AIM = 0.95, 0.9


@dataclass(frozen=True)
class Pruned:
    """What was let go."""

    studies: int
    quarantined: int
    files: int
    freed_bytes: int
    kept_bytes: int

    @property
    def sentence(self) -> str:
        """In a line."""
        return (
            f"{self.studies} read studies and {self.quarantined} quarantined files let go: {self.files} files,"
            f" {self.freed_bytes / 2**20:,.1f} MiB; {self.kept_bytes / 2**20:,.1f} MiB kept"
        )


@dataclass(frozen=True)
class Swept:
    """What a look at every file came to."""

    files: int
    freed_bytes: int
    kept_bytes: int
    going_bytes: int  #: of those kept: no row claims them, and they go once they are old enough


def prune(
    database: Database, store: Store, now: datetime, older_than: timedelta, quota_bytes: int | None = None
) -> Pruned:
    """Let go of what was read, or quarantined, longer ago than `older_than`; then, while the store holds more than
    `quota_bytes`, of what was read the longest ago.

    The rows first, then the files: if it is interrupted, files are left that no row claims, and the next run takes
    them. Raises StorageUnavailable, DatabaseUnavailable.
    """
    studies = retention.release(database, [p.study_id for p in retention.prunable(database, now - older_than)])
    quarantined = retention.release_quarantined(database, now - older_than)
    pruned = prune_to(database, store, now, math.inf if quota_bytes is None else quota_bytes)
    return replace(pruned, studies=studies + pruned.studies, quarantined=quarantined)


def prune_to(database: Database, store: Store, now: datetime, quota_bytes: float) -> Pruned:
    """Let go of what no row claims, and while the store holds more than `quota_bytes`, of what was read the longest
    ago. Raises StorageUnavailable, DatabaseUnavailable.
    """
    swept = _remove_unclaimed(database, store, now)
    excess, chosen = swept.kept_bytes - swept.going_bytes - quota_bytes, []
    for candidate in retention.prunable(database, now) if excess > 0 else ():
        if excess <= 0:
            break
        chosen.append(candidate.study_id)
        excess -= candidate.size_bytes
    if not chosen:
        return Pruned(0, 0, swept.files, swept.freed_bytes, swept.kept_bytes)
    studies = retention.release(database, chosen)
    again = _remove_unclaimed(database, store, now)
    return Pruned(studies, 0, swept.files + again.files, swept.freed_bytes + again.freed_bytes, again.kept_bytes)


def keep_quota(
    settings: Settings, database: Database, store: Store, capacity: Capacity, now: datetime
) -> Pruned | None:
    """Make room when the store nears its quota, now and then; None when nothing had to be done.

    Raises StorageUnavailable, DatabaseUnavailable.
    """
    quota_bytes = settings.store_quota_mib * 2**20
    if not quota_bytes or not capacity.may_prune(now) or capacity.measured_bytes(store, now) < NEAR * quota_bytes:
        return None
    began_s = time.monotonic()
    pruned = prune_to(database, store, now, AIM * quota_bytes)
    if pruned.studies:
        audit.note(database, AuditAction.PRUNED, SETTING, now, detail=pruned.sentence)
    capacity.note_pruned(pruned.kept_bytes, now, time.monotonic() - began_s)
    return pruned


def _remove_unclaimed(database: Database, store: Store, now: datetime) -> Swept:
    """Remove old files that no row claims."""
    latest = (now - ORPHAN_AGE).timestamp()
    files = freed = kept = going = 0
    for kind, digests in zip((OBJECTS, OVERLAYS), retention.claimed(database), strict=True):
        for stored in store.files(kind):
            if stored.digest in digests:
                kept += stored.size_bytes
            elif stored.modified_at > latest or not store.remove(stored, latest):
                kept, going = kept + stored.size_bytes, going + stored.size_bytes
            else:
                files, freed = files + 1, freed + stored.size_bytes
    return Swept(files, freed, kept, going)
