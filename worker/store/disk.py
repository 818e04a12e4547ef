"""Files and folders of the store on its disk: made durable, and compared piece by piece. Raises OSError."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from worker.store.contract import ENDINGS, PIECE


def holds(path: Path, content: bytes) -> bool:
    """Whether the file holds exactly this content. False for a file that a bad disk cannot read any more."""
    expected, at = memoryview(content), 0
    buffer = memoryview(bytearray(PIECE))
    try:
        with path.open("rb", buffering=0) as file:
            if os.fstat(file.fileno()).st_size != len(content):
                return False
            while read := file.readinto(buffer):
                if buffer[:read] != expected[at : at + read]:
                    return False
                at += read
    except OSError:
        return False
    return at == len(content)


def holds_file(path: Path, other: Path | int) -> bool:
    """Whether two files hold the same content. False if one is gone, or a bad disk cannot read it any more.

    `other`: a path, or a file that is open for reading, which is read from its beginning.
    """
    try:
        with path.open("rb", buffering=0) as file:
            if isinstance(other, int):
                return _are_equal(file.fileno(), other)
            with other.open("rb", buffering=0) as second:
                return _are_equal(file.fileno(), second.fileno())
    except OSError:
        return False


def _are_equal(one: int, other: int) -> bool:
    size = os.fstat(one).st_size
    if os.fstat(other).st_size != size:
        return False
    first, second = memoryview(bytearray(PIECE)), memoryview(bytearray(PIECE))
    at = 0
    while at < size:
        read = _fill(one, first, at)
        if read == 0 or _fill(other, second, at) != read or first[:read] != second[:read]:
            return False
        at += read
    return True


def _fill(descriptor: int, buffer: "memoryview[Any]", at: int) -> int:
    """Read into the whole buffer, as far as the file goes."""
    filled = 0
    while filled < len(buffer) and (read := os.preadv(descriptor, [buffer[filled:]], at + filled)):
        filled += read
    return filled


#: One buffer for each thread: memory that is touched for the first time costs more than reading into it.
_BUFFERS = threading.local()


def pieces(descriptor: int) -> Iterator["memoryview[Any]"]:
    """The content of an open file from its beginning, in pieces that the processor's cache holds.

    Each piece is valid until the next one is asked for by this thread.
    """
    buffer = getattr(_BUFFERS, "buffer", None)
    if buffer is None:
        buffer = _BUFFERS.buffer = memoryview(bytearray(PIECE))
    at = 0
    while read := os.preadv(descriptor, [buffer], at):
        yield buffer[:read]
        at += read


def object_path(folder: Path, kind: str, digest: str) -> Path:
    """The path of the content of this digest in the store at `folder`, whether it exists or not."""
    return folder.joinpath(kind, digest[:2], digest + ENDINGS[kind])


def make_folders(folder: Path, kind: str, last: Path) -> None:
    """Make the folder of the store, that of the kind, and the last one."""
    for each in (folder, folder / kind, last):
        make_folder(each)


def make_folder(folder: Path) -> None:
    """Make a folder that only its owner may read; `mkdir(parents=True)` would give the mode only to the last folder."""
    if not folder.is_dir():
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        fsync_path(folder.parent)


def write_durably(path: Path, content: bytes) -> None:
    """Write a new file and fsync its content, but not its name; raises FileExistsError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def fsync_path(path: Path) -> None:
    """Make the content of a file, or the names in a folder, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
