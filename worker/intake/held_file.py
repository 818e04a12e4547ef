"""A file of the inbox that was stored and is to leave the inbox; a read lease (fcntl(2)) protects it from writers.

The lease is held from before the file is read until it has left the inbox, so that no byte that another program writes
to it is lost or gets into the store. A writer waits until the group of files is booked: milliseconds, or 45 s at most
(/proc/sys/fs/lease-break-time) while the database stalls. If a writer waits, or was let in, before the file has left
the inbox, then either the store gets a copy of what was read, or the file is not booked. The file stays in the inbox,
and is another arrival.

Not prevented: the stored file changes too

- if a writer comes while the file is booked, and this process is stopped for 45 s or the store takes no copy
  (`stored_file_changed`; `writers_watch` looks each second);
- if a program overwrites the file in place after the watcher was killed between commit and unlink (a worker finds it by
  the CRC-32: `stored_file_lost`).

A file is copied, not linked, where no lease is granted (a network file system, a file open for writing or of another
user), where it has another name already, and where the store is on another file system. A copied file gets a hidden
name for a moment before it is removed: a watcher that is killed at that moment leaves this file, which may be deleted.
"""

import logging
import os
import secrets
import stat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from pathlib import Path

from worker.errors import StorageUnavailable
from worker.intake.source_file import SourceFile
from worker.store import Links
from worker.store.links import add_name

log = logging.getLogger(__name__)


class Step(StrEnum):
    """What was done last, in this order. The comments: what is on the disk if the process ends just then."""

    READ = "read"  #: the file is in the inbox alone, whole and unchanged
    LINKED = "linked"  #: its bytes are durable, and it may have a second name, in the store; no row names it
    STORED = "stored"  #: the second name is durable: the file is taken in from the inbox as if for the first time
    BOOKED = "booked"  #: the row is durable: the file in the inbox is a duplicate, and leaves it
    MARKED = "marked"  #: as before; the file is ours alone by its mode, and has a new date that keeps pruning from it
    REMOVED = "removed"  #: the store alone has the file; after a power cut, perhaps the inbox too, which is as before.
    #: One that was copied lies in the inbox under a hidden name, until nobody wants to write to it


class Removal(Enum):
    """Whether a file has left the inbox."""

    GONE = auto()
    WANTED = auto()  #: somebody wants to write to it, so it stays, and comes again as another arrival
    STAYS = auto()  #: it cannot be removed


#: Called after each step; tests end the process there.
AtStep = Callable[[Step], None]


def no_step(_: Step) -> None:
    """Called after each step in normal use."""


@dataclass(frozen=True)
class HeldFile:
    """A stored file with its lease. Either `remove` or `abandon` it."""

    source: SourceFile
    digest: str
    links: Links | None  #: of the store, when the stored file is this very file
    at_step: AtStep = no_step

    def remove(self) -> Removal:
        """Take a booked file out of the inbox."""
        self.at_step(Step.BOOKED)
        try:
            return self._remove()
        finally:
            self.source.close()

    def stays_as_read(self) -> bool:
        """Whether the stored bytes are, and stay, what was read: call it before they are booked.

        If a writer waits, the store gets a copy at once, because the system lets a writer in after 45 s. False, and the
        file is released, when a writer was let in already or the store cannot take a copy.
        """
        if self.source.holds() or self._separate():
            return True
        self.source.close()
        return False

    def is_apart_from_writers(self) -> bool:
        """Whether a writer waits and the store has a copy by now: call it while the file is being booked."""
        return not self.source.holds() and self._separate()

    def abandon(self) -> None:
        """Leave the file in the inbox, because booking it failed; it may be booked in spite of the error."""
        try:
            self._separate()
        finally:
            self.source.close()

    def _remove(self) -> Removal:
        path = Path(self.source.path)
        if not self.source.holds():
            self._separate()
            return Removal.WANTED
        try:
            self._mark()
            self.at_step(Step.MARKED)
            if not self._is_at(path):  # somebody moved it, or put another file there
                self._separate()
                return Removal.WANTED if path.exists() else Removal.GONE
            aside = self._take_name(path)
        except OSError as error:
            log.error("file_not_removed", extra={"reason": error.strerror})
            self._separate()
            return Removal.STAYS
        self.at_step(Step.REMOVED)
        if self.source.holds():
            _drop(aside)
            return Removal.GONE
        return Removal.WANTED if self._put_back(path, aside) else Removal.GONE

    def _mark(self) -> None:
        if self.links is not None:
            os.utime(self.source.descriptor)
            os.fchmod(self.source.descriptor, 0o600)

    def _unmark(self) -> None:
        status = self.source.status
        with suppress(OSError):
            os.fchmod(self.source.descriptor, stat.S_IMODE(status.st_mode))
            os.utime(self.source.descriptor, ns=(status.st_atime_ns, status.st_mtime_ns))

    def _is_at(self, path: Path) -> bool:
        try:
            return os.path.samestat(path.stat(follow_symlinks=False), self.source.status)
        except FileNotFoundError:
            return False

    def _take_name(self, path: Path) -> Path | None:
        """Remove the file's name. A copied file has no other one, and gets a hidden name, which is returned."""
        if self.links is not None:
            path.unlink()
            return None
        return path.rename(path.with_name(f".{secrets.token_hex(8)}.removed"))

    def _put_back(self, path: Path, aside: Path | None) -> bool:
        """Give the file its name again, because a writer that opened it by that name waits. False: not put back."""
        try:
            self._name_again(path, aside)  # first, because a file without any name gets none again
        except OSError as error:
            log.error("file_not_put_back", extra={"reason": error.strerror})
            return False
        finally:
            self._separate()
        log.warning("file_put_back")
        return True

    def _name_again(self, path: Path, aside: Path | None) -> None:
        other = path.with_name(f"{path.stem}-{secrets.token_hex(4)}{path.suffix}")
        try:
            add_name(self.source.descriptor, path)
        except OSError:  # the next file of this name came meanwhile, or the file system knows no second names
            if aside is not None:
                aside.rename(other)
            else:
                add_name(self.source.descriptor, other)
        else:
            _drop(aside)

    def _separate(self) -> bool:
        """Give the store a copy of a linked file, and the file its mode and date again. False: there is no copy."""
        if self.links is None:
            return True
        is_apart = False
        try:
            is_apart = self.links.separate(self.source.descriptor, self.digest)
            if not is_apart:
                log.error("stored_file_changed", extra={"digest": self.digest})
        except StorageUnavailable as error:
            log.error("stored_file_shared", extra={"digest": self.digest, "reason": error.message})
        self._unmark()
        return is_apart


def _drop(aside: Path | None) -> None:
    """Remove the hidden name, if there is one."""
    if aside is not None:
        try:
            aside.unlink()
        except OSError as error:
            log.error("file_not_removed", extra={"reason": error.strerror})
