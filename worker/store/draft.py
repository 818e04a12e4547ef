"""A file on its way into the store: written in pieces and hashed as they come. `Store.adopt` takes it over."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from worker.errors import StorageUnavailable
from worker.store.contract import Sums


@dataclass
class Draft:
    """A new file that only its owner may read. `write`, then `finish` or `close`; in any case `discard`."""

    path: Path
    sums: Sums = field(default_factory=Sums)
    size_bytes: int = 0
    _descriptor: int | None = None

    def write(self, piece: Any) -> None:
        """Append a piece; the first one makes the file. Raises StorageUnavailable when the disk is full."""
        view = memoryview(piece)
        with self._translated():
            if self._descriptor is None:
                self._descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            written = 0
            while written < len(view):
                written += os.write(self._descriptor, view[written:])
        self.sums.add(view)
        self.size_bytes += len(view)

    def finish(self) -> None:
        """Make the whole file durable, but not its name; raises StorageUnavailable."""
        if self._descriptor is None:
            return
        with self._translated():
            os.fsync(self._descriptor)
        self.close()

    def close(self) -> None:
        """End writing; `Store.adopt` makes the file durable if it is needed."""
        if self._descriptor is not None:
            with suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = None

    def discard(self) -> None:
        """Close and remove the file, unless the store has taken it over."""
        self.close()
        with suppress(OSError):
            self.path.unlink(missing_ok=True)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StorageUnavailable(f"cannot write to the store ({error.strerror})").about(str(self.path)) from error
