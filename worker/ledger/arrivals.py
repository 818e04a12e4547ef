"""What passes over the counter of intake: a file seen, the receipt for it, how it was booked."""

import hashlib
import os
from dataclasses import dataclass

from schema.vocabulary import FileState, Priority
from worker.imaging.instance import Instance as Header

#: PostgreSQL indexes values of at most 2,704 bytes; a file system's paths have up to 4,096.
LONGEST_PATH_BYTES = 2000


@dataclass(frozen=True)
class Incoming:
    """A file as seen in a folder."""

    path: str
    size_bytes: int
    mtime_ns: int
    priority: Priority = Priority.ROUTINE


@dataclass(frozen=True)
class Twin:
    """A file already accepted under the same SOP Instance UID."""

    digest: str
    left_at: str | None
    is_unreadable: bool


@dataclass(frozen=True)
class Receipt:
    """A file whose header could be read, and what intake found out about it."""

    file: Incoming
    header: Header
    digest: str
    crc: int | None = None  #: CRC-32 of the file
    same_pixels_as: str | None = None  #: digest of a twin with the same stored values
    unreadable: str | None = None  #: error code of a file that arrived broken; its study will show it
    message: str = ""
    left_at: str | None = None  #: the file stays there and the store holds no copy
    is_settled: bool = False  #: no quiet period: the sender said that these files are all


@dataclass(frozen=True)
class Booked:
    """How an arrival was booked."""

    state: FileState
    study_uid: str | None
    message: str
    is_in_store: bool = False


def in_utf8(name: str) -> str:
    """A name of the file system or the command line: its bytes that are no UTF-8 become escapes."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def spelled(path: str) -> str:
    """A path as the database keeps it, in UTF-8, for databases refuse other bytes.

    One too long for an index keeps its beginning and its end, and between them the digest of the whole.
    """
    words = in_utf8(path)
    if len(words.encode()) <= LONGEST_PATH_BYTES:
        return words
    return f"{words[:400]}…{hashlib.sha256(words.encode()).hexdigest()}…{words[-200:]}"
