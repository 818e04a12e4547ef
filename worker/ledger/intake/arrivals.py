"""Data between intake and the ledger: a file that was seen, its receipt, and how it was registered."""

import hashlib
import os
from dataclasses import dataclass

from schema.vocabulary import FileState, Priority
from worker.imaging.instance import Instance as Header

#: PostgreSQL indexes values of at most 2,704 bytes; a file system's paths have up to 4,096.
LONGEST_PATH_BYTES = 2000

#: Characters that are kept of the beginning and of the end of a longer path.
PATH_KEPT, PATH_END_KEPT = 400, 200


@dataclass(frozen=True)
class Incoming:
    """A file as seen in a folder."""

    path: str
    size_bytes: int
    mtime_ns: int
    priority: Priority = Priority.ROUTINE


@dataclass(frozen=True)
class AcceptedCopy:
    """A file that was accepted before under the same SOP Instance UID, with other bytes."""

    digest: str
    left_at: str | None
    is_unreadable: bool
    is_stalled: bool = False  #: the lower part of its picture is empty


@dataclass(frozen=True)
class Correction:
    """How the header of a file differs from that of an accepted copy with the same UID and pixels."""

    of: str  #: digest of the copy
    elements: tuple[str, ...] = ()  #: names of what differs; never a value
    is_screened_by: bool = False  #: some of it matters to the screening
    excludes: bool = False  #: it excludes an image from screening that the copy's header did not exclude


@dataclass(frozen=True)
class Receipt:
    """A file with a readable header, and what intake determined about it."""

    file: Incoming
    header: Header
    digest: str
    crc: int | None = None  #: CRC-32 of the file
    compared: frozenset[str] | None = None  #: digests of all accepted copies that were looked at; None: it says nothing
    same_pixels_as: frozenset[str] = frozenset()  #: digests of accepted copies with the same stored values
    correction: Correction | None = None  #: of one of them
    completes: frozenset[str] = frozenset()  #: digests of accepted copies that hold its beginning, and then zeros
    unreadable: str | None = None  #: error code of a damaged file; its study will show it
    message: str = ""
    left_at: str | None = None  #: path where the file stays, because the store holds no copy
    was_missing: bool = False  #: the store held nothing, or other bytes, under this digest, and now holds the file
    is_settled: bool = False  #: no quiet period, because the sender said that no more files will come


@dataclass(frozen=True)
class AsRead:
    """What proves that a file still holds the bytes that were read."""

    digest: str
    ctime_ns: int  #: no program can set it back, as it can the time of modification


@dataclass(frozen=True)
class Registration:
    """How an arrival was registered."""

    state: FileState
    study_uid: str | None
    message: str
    is_in_store: bool = False
    as_read: AsRead | None = None  #: None: the file was not read


def in_utf8(name: str) -> str:
    """A name of the file system or the command line; bytes that are not UTF-8 become escapes."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def stored_path(path: str) -> str:
    """A path as stored in the database: in UTF-8, because databases refuse other bytes.

    A path too long for an index is shortened to its beginning, the digest of the whole path, and its end.
    """
    words = in_utf8(path)
    if len(words.encode()) <= LONGEST_PATH_BYTES:
        return words
    return f"{words[:PATH_KEPT]}…{hashlib.sha256(words.encode()).hexdigest()}…{words[-PATH_END_KEPT:]}"
