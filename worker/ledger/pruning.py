"""Frees space in the store: by age, down to a quota, and from files that no row uses. Never removes an unread study,
and nothing while a backup copies the store.
"""

import fcntl
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from schema.database import Database
from schema.vocabulary import AuditAction
from worker.errors import StorageUnavailable
from worker.ledger import audit, retention
from worker.settings import Settings
from worker.store import OBJECTS, OVERLAYS, Store
from worker.store.capacity import Capacity
from worker.store.folder import FolderStore

#: A file that no row uses is kept this long, because its row may not be written yet.
ORPHAN_AGE = timedelta(days=1)

#: A file in the folder of the store that `deploy/backup.sh` keeps locked while it copies database and store: what its
#: copy of the database names must not go before it is copied.
BACKUP_LOCK = ".backup.lock"

#: The name under which the watcher prunes in the audit.
SETTING = "setting SCREENING_STORE_QUOTA_MIB"

#: Shares of the quota: the watcher prunes from NEAR on, down to AIM, so that intake need not stop.
NEAR, AIM = 0.95, 0.9


@dataclass(frozen=True)
class Pruned:
    """What was pruned."""

    studies: int
    quarantined: int
    files: int
    freed_bytes: int
    kept_bytes: int

    @property
    def sentence(self) -> str:
        """A summary in one line."""
        return (
            f"{self.studies} read studies and {self.quarantined} quarantined files pruned: {self.files} files,"
            f" {self.freed_bytes / 2**20:,.1f} MiB; {self.kept_bytes / 2**20:,.1f} MiB kept"
        )


@dataclass(frozen=True)
class Removal:
    """The result of checking every file of the store."""

    files: int
    freed_bytes: int
    kept_bytes: int
    going_bytes: int  #: of those kept: used by no row, to be removed when they are old enough


def prune(
    database: Database, store: Store, now: datetime, older_than: timedelta, quota_bytes: int | None = None
) -> Pruned:
    """Prune what was read, or quarantined, longer ago than `older_than`; then, while the store holds more than
    `quota_bytes`, what was read the longest ago.

    Changes the rows first, then removes the files: after an interruption, files remain that no row uses, and the next
    run removes them. Raises StorageUnavailable, also while a backup runs, and DatabaseUnavailable.
    """
    with _no_backup(store):
        studies = retention.release(database, [p.study_id for p in retention.prunable(database, now - older_than)])
        quarantined = retention.release_quarantined(database, now - older_than)
        pruned = _prune_to(database, store, now, math.inf if quota_bytes is None else quota_bytes)
    return replace(pruned, studies=studies + pruned.studies, quarantined=quarantined)


def prune_to(database: Database, store: Store, now: datetime, quota_bytes: float) -> Pruned:
    """Remove files that no row uses, and while the store holds more than `quota_bytes`, prune what was read the longest
    ago. Raises StorageUnavailable, also while a backup runs, and DatabaseUnavailable.
    """
    with _no_backup(store):
        return _prune_to(database, store, now, quota_bytes)


def _prune_to(database: Database, store: Store, now: datetime, quota_bytes: float) -> Pruned:
    removal = _remove_unclaimed(database, store, now)
    excess = removal.kept_bytes - removal.going_bytes - quota_bytes
    candidates = retention.prunable(database, now) if excess > 0 else []
    chosen = []
    for candidate in candidates:
        if excess <= 0:
            break
        chosen.append(candidate.study_id)
        excess -= candidate.size_bytes
    if not chosen:
        return Pruned(0, 0, removal.files, removal.freed_bytes, removal.kept_bytes)
    studies = retention.release(database, chosen)
    again = _remove_unclaimed(database, store, now)
    return Pruned(studies, 0, removal.files + again.files, removal.freed_bytes + again.freed_bytes, again.kept_bytes)


def keep_quota(
    settings: Settings, database: Database, store: Store, capacity: Capacity, now: datetime
) -> Pruned | None:
    """Prune when the store comes near its quota, not too often; None when nothing had to be done.

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


@contextmanager
def _no_backup(store: Store) -> Iterator[None]:
    """Let no backup of a store in a folder begin while the block runs; raises StorageUnavailable while one runs.

    A bucket is not copied by the script.
    """
    if not isinstance(store, FolderStore) or not store.folder.is_dir():
        yield
        return
    path = store.folder / BACKUP_LOCK
    try:
        file = path.open("a")
    except OSError as error:
        raise StorageUnavailable(f"cannot be written ({error.strerror}): run backups as the service's account").about(
            str(path)
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StorageUnavailable(
                "a backup copies the store, so nothing is removed from it: prune again when the backup has ended"
            ).about(store.name) from error
        yield


def _remove_unclaimed(database: Database, store: Store, now: datetime) -> Removal:
    """Remove old files that no row uses."""
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
    return Removal(files, freed, kept, going)
