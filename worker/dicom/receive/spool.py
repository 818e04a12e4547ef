"""Objects on their way in: each is a file on the store's own file system, hashed as it comes, gone after its answer.

Names are random and never come from the network.
"""

import fcntl
import logging
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from worker.errors import StorageUnavailable
from worker.settings import Settings
from worker.store import Sums
from worker.store.draft import Draft

log = logging.getLogger(__name__)

#: Folder of the spool, in the folder of the store; with a bucket, in the state folder.
SPOOL = "spool"

#: Held locked by the process that owns a folder of the spool.
LOCK = "lock"


@dataclass
class SpooledObject:
    """One object as a file. `write`, then `finish`; in any case `discard`."""

    draft: Draft
    head: bytes  #: preamble and file meta information, written before the first piece
    limit_bytes: int

    @property
    def path(self) -> Path:
        """The file."""
        return self.draft.path

    @property
    def sums(self) -> Sums:
        """Of what was written."""
        return self.draft.sums

    @property
    def size_bytes(self) -> int:
        """Of what was written; 0 before the first piece."""
        return self.draft.size_bytes

    def write(self, piece: bytes) -> None:
        """Append a piece; raises StorageUnavailable when the disk is full, OverflowError beyond the limit."""
        pieces = (piece,) if self.size_bytes else (self.head, piece)
        for each in pieces:
            if self.size_bytes + len(each) > self.limit_bytes:
                raise OverflowError
            self.draft.write(each)

    def finish(self) -> None:
        """Make the whole file durable; raises StorageUnavailable."""
        self.draft.finish()

    def discard(self) -> None:
        """Close and remove the file, unless the store has taken it over."""
        self.draft.discard()


class Spool:
    """The spool of one receiver. Folders that a killed receiver left are removed: nothing in them was answered."""

    def __init__(self, settings: Settings) -> None:
        self.root = (settings.store_folder or settings.home) / SPOOL
        self.limit_bytes = settings.max_pixel_bytes + HEADER_BYTES
        self.folder = self.root / secrets.token_hex(8)

    @contextmanager
    def opened(self) -> Iterator["Spool"]:
        """Hold the folder while the block runs. Raises StorageUnavailable."""
        with _translated(self.root):
            new = self.folder.with_name(f".{self.folder.name}")
            new.mkdir(parents=True, mode=0o700)
            lock = os.open(new / LOCK, os.O_WRONLY | os.O_CREAT, 0o600)
            fcntl.flock(lock, fcntl.LOCK_EX)
            new.rename(self.folder)  # under this name it is locked: no other receiver takes it for abandoned
            self._remove_abandoned()
        try:
            yield self
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)
            os.close(lock)

    def begin(self, head: bytes) -> SpooledObject:
        """A new object; its file is made when the first piece comes."""
        return SpooledObject(Draft(self.folder / f"{secrets.token_hex(16)}.partial"), head, self.limit_bytes)

    def held(self) -> int:
        """How many objects are on their way."""
        return sum(1 for _ in self.folder.glob("*.partial"))

    def _remove_abandoned(self) -> None:
        for folder in self.root.iterdir():
            if folder.name.startswith(".") or folder == self.folder or not _is_abandoned(folder):
                continue
            left = sum(1 for _ in folder.glob("*.partial"))
            shutil.rmtree(folder, ignore_errors=True)
            log.warning("spool_removed", extra={"objects": left})


#: An object may be this much larger than the largest image: its header.
HEADER_BYTES = 64 * 2**20


def _is_abandoned(folder: Path) -> bool:
    """Whether no process holds this folder."""
    try:
        with (folder / LOCK).open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageUnavailable(f"the spool cannot be written ({error.strerror})").about(str(path)) from error
