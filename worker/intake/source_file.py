"""A file that was dropped: when it changed, and how it is opened and read, in pieces. Stores nothing."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from worker.errors import NotAFile, Truncated, Unreadable
from worker.imaging.first_bytes import read_from_first_bytes
from worker.imaging.image_file import read_instance
from worker.imaging.instance import Instance
from worker.imaging.limits import Limits
from worker.intake.write_lease import holds_lease, take_lease
from worker.store import PIECE
from worker.store.disk import pieces

#: The latest time in 64 bits of nanoseconds: 11 April 2262.
LATEST_NS = 2**63 - 1


def modified_ns(status: os.stat_result) -> int:
    """When a file was last modified, limited to the 64 bits of databases: a wrong clock may write the year 2400."""
    return max(-LATEST_NS, min(status.st_mtime_ns, LATEST_NS))


def open_at_once(path: str, flags: int) -> int:
    """Open without waiting for a writer: the path may have become a FIFO."""
    return os.open(path, flags | os.O_NONBLOCK)


@dataclass
class SourceFile:
    """A dropped file, open for reading. `close` it; a lease is held until then."""

    path: str
    descriptor: int
    status: os.stat_result  #: when it was opened
    has_lease: bool = False

    @classmethod
    def opened(cls, path: str) -> "SourceFile":
        """Open a file. Raises FileNotFoundError, NotAFile, Unreadable."""
        with _readable(path):
            if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116
                raise NotAFile("not a regular file (a pipe, a device, a link to a folder): drop plain files")
            descriptor = open_at_once(path, os.O_RDONLY | os.O_CLOEXEC)
            return cls(path, descriptor, os.fstat(descriptor))

    def hold(self) -> bool:
        """Hold it against writers, as far as the system grants that, and unless the path is a link to it.

        Raises as `opened` when the path cannot be asked any more.
        """
        with _readable(self.path):
            is_here = os.path.samestat(os.stat(self.path, follow_symlinks=False), self.status)  # noqa: PTH116
        self.has_lease = is_here and take_lease(self.descriptor)
        return self.has_lease

    def holds(self) -> bool:
        """Whether it is held, and nobody has wanted to write to it since."""
        return self.has_lease and holds_lease(self.descriptor)

    def header(self, limits: Limits) -> Instance:
        """Its Instance, from the first bytes if these say enough. Raises Rejected as `read_instance`."""
        with _readable(self.path):
            found = read_from_first_bytes(self._read_at, self.status.st_size, limits)
            return read_instance(self.whole, limits) if found is None else found

    @cached_property
    def whole(self) -> bytes:
        """Its bytes, read at once; a growing file is not read to its end. Raises Unreadable."""
        with _readable(self.path), os.fdopen(os.dup(self.descriptor), "rb", buffering=0) as file:
            file.seek(0)
            return file.read(self.status.st_size + 1) or b""

    def pieces(self) -> Iterator["memoryview[Any]"]:
        """Its bytes, from memory if they were read. Raises Truncated when the file changed since it was opened.

        Each piece is valid until the next one is asked for.
        """
        size = 0
        for piece in self._pieces():
            size += len(piece)
            yield piece
            if size > self.status.st_size:
                break
        now = os.fstat(self.descriptor)
        before = self.status
        if (size, now.st_mtime_ns, now.st_size) != (before.st_size, before.st_mtime_ns, before.st_size):
            raise Truncated("the file changed while it was read: it is still being written")

    def close(self) -> None:
        """Close it, and with that give up the lease."""
        with suppress(OSError):
            os.close(self.descriptor)

    def _pieces(self) -> Iterator["memoryview[Any]"]:
        if "whole" in self.__dict__:
            whole = memoryview(self.whole)
            yield from (whole[start : start + PIECE] for start in range(0, len(whole), PIECE))
            return
        with _readable(self.path):
            yield from pieces(self.descriptor)

    def _read_at(self, at: int, length: int) -> bytes:
        return os.pread(self.descriptor, length, at)


@contextmanager
def _readable(path: str) -> Iterator[None]:
    """Raise what the system says of a file as Unreadable, or as FileNotFoundError when there is none."""
    try:
        yield
    except FileNotFoundError:
        if Path(path).is_symlink():
            raise Unreadable("a link to nothing: drop the file itself") from None
        raise
    except OSError as error:
        raise Unreadable(f"the file cannot be read ({error.strerror}): check its permissions") from error
