"""Write a file whole or not at all, also where the disk is full or the power fails."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


def write_atomically(content: bytes, path: Path) -> None:
    """Replace the file at `path` atomically: it has the whole new content or the old one."""
    with written_atomically(path) as file:
        file.write(content)


def write_synced(content: bytes, path: Path) -> None:
    """Write a file that is renamed once it is checked, and wait until the disk has it."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def written_atomically(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, which replaces that at `path` at the end; if an error comes, it is removed.

    A link stays, and what it points to is replaced. A pipe or device is written to as it is.
    """
    if path.exists() and not path.is_file():
        with path.open("wb") as file:
            yield file
        return
    if path.is_symlink():
        path = path.resolve()
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
