"""Makes room in the store: by age, down to a quota, and of files that no row claims. Never of an unread study."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from schema.database import Database
from worker.ledger import retention
from worker.store import OBJECTS, OVERLAYS, Store

#: A file that no row claims is left this long: its row may still be on its way.
ORPHAN_AGE = timedelta(days=1)


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
    files, freed, kept = _remove_unclaimed(database, store, now)
    if quota_bytes is not None and kept > quota_bytes:
        chosen, room = [], 0
        for candidate in retention.prunable(database, now):
            if kept - room <= quota_bytes:
                break
            chosen.append(candidate.study_id)
            room += candidate.size_bytes
        studies += retention.release(database, chosen)
        more, more_freed, kept = _remove_unclaimed(database, store, now)
        files, freed = files + more, freed + more_freed
    return Pruned(studies, quarantined, files, freed, kept)


def _remove_unclaimed(database: Database, store: Store, now: datetime) -> tuple[int, int, int]:
    """Remove old files that no row claims; returns how many, their bytes, and the bytes that are left."""
    latest = (now - ORPHAN_AGE).timestamp()
    files = freed = kept = 0
    for kind, digests in zip((OBJECTS, OVERLAYS), retention.claimed(database), strict=True):
        for stored in store.files(kind):
            if stored.digest in digests or stored.modified_at > latest or not store.remove(stored, latest):
                kept += stored.size_bytes
                continue
            files, freed = files + 1, freed + stored.size_bytes
    return files, freed, kept
