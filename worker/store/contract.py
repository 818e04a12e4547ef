"""The contract of every store: immutable content by its digest. No name is taken from a file."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

#: Each kind of content, and its file name extension.
OBJECTS, OVERLAYS, MODELS, COMPARISONS = "objects", "overlays", "models", "comparisons"
ENDINGS = {OBJECTS: "", OVERLAYS: ".png", MODELS: ".onnx", COMPARISONS: ".json"}

#: What to do about a lost file.
RESTORE = "restore it from a backup, or send it again, and `worker requeue` its study"


@dataclass(frozen=True)
class Stored:
    """A file of the store: a finished one, or an unfinished one that was left behind."""

    place: str  #: the store's own name for it
    digest: str  #: of an unfinished file: its name, which is no digest
    size_bytes: int
    modified_at: float  #: in seconds since 1970


@dataclass(frozen=True)
class Kept:
    """Content that the store holds now."""

    digest: str
    is_proved: bool  #: it was there already, byte for byte
    is_linked: bool = False  #: the stored file is the caller's own, which has another name still


class Links(Protocol):
    """Makes a file that lies elsewhere one of the store, by a second name: no byte is copied."""

    def refusal(self, descriptor: int) -> str | None:
        """Why an open file cannot be linked; None when it can, as far as that can be said before it is tried."""

    def take(self, descriptor: int, digest: str, on_linked: Callable[[], None]) -> Kept | None:
        """`Store.keep` for the content of an open file; None where it cannot be linked.

        `on_linked` is called before the name is durable. The caller keeps writers out of the file until its first name
        is gone, or calls `separate`.
        """

    def separate(self, descriptor: int, digest: str) -> bool:
        """If the stored file is this open file, replace it by a copy. False if its content has changed.

        Raises StorageUnavailable.
        """


class Store(Protocol):
    """Content under its digest: complete or absent. Putting it again changes nothing."""

    @property
    def name(self) -> str:
        """The name of the store for people: a folder, or a URL."""

    def place(self, kind: str, digest: str) -> str:
        """The path or URL of the content of this digest."""

    def keep(self, kind: str, content: bytes, digest: str | None = None) -> Kept:
        """Keep `content`. What lies under its digest already is compared byte for byte, and replaced if it differs.

        `digest`: of the content, if known already. Raises StorageUnavailable when the store is full or unavailable.
        """

    def put(self, kind: str, content: bytes) -> str:
        """`keep`, returning only the digest."""

    def adopt(self, kind: str, file: Path, digest: str) -> Kept:
        """`keep` for the content of a file of ours, which is moved once it is durable, or copied, and then gone."""

    def draft(self, kind: str) -> Path | None:
        """Where a file may be written that `adopt` then takes by renaming it; None: the store takes bytes."""

    def links(self, kind: str) -> Links | None:
        """What links files into the store; None: the store is no file system."""

    def get(self, kind: str, digest: str, crc: int | None = None) -> bytes:
        """The content of a digest, verified by its CRC-32 if known, which is thirty times as fast as by the digest.

        Raises StorageUnavailable when the store is unavailable, StoredFileLost when only this file is gone or damaged.
        """

    def has(self, kind: str, digest: str) -> bool:
        """Whether the content exists (by name; `get` verifies it)."""

    def files(self, kind: str) -> Iterator[Stored]:
        """Every file of a kind; raises StorageUnavailable."""

    def remove(self, stored: Stored, latest: float) -> bool:
        """Remove a file, unless it was put again after the moment `latest`; raises StorageUnavailable."""

    def keep_once(self, name: str, content: bytes) -> bytes:
        """Keep `content` under a plain name, unless that exists; returns the content that then has this name.

        Raises StorageUnavailable.
        """

    def prove_writable(self) -> None:
        """Write something and remove it again; raises StorageUnavailable when the store is full or unavailable."""

    def free_mib(self) -> float:
        """Free space on the store's disk; infinite for a bucket. Raises StorageUnavailable."""


#: Size of a block that stays in the processor's cache while both sums are computed.
PIECE = 1 << 18


class Sums:
    """SHA-256 and CRC-32 (ISO 3309) of content that comes in pieces."""

    def __init__(self) -> None:
        self._digest, self.crc = hashlib.sha256(), 0

    def add(self, piece: Any) -> None:
        """Continue with the next bytes."""
        from imagecodecs import deflate_crc32  # loaded late: reading the worklist does not need it

        self._digest.update(piece)
        self.crc = int(deflate_crc32(piece, self.crc))

    @property
    def digest(self) -> str:
        """SHA-256 so far, hexadecimal."""
        return self._digest.hexdigest()


def sums_of(content: bytes) -> tuple[str, int]:
    """SHA-256 (hexadecimal) and CRC-32 of content, which is read from memory once for both."""
    sums, whole = Sums(), memoryview(content)
    for start in range(0, len(content), PIECE):
        sums.add(whole[start : start + PIECE])
    return sums.digest, sums.crc


def crc_of(content: bytes) -> int:
    """CRC-32 (ISO 3309), by the processor's carry-less multiplication: half a millisecond for a radiograph."""
    from imagecodecs import deflate_crc32  # loaded late: reading the worklist does not need it

    return int(deflate_crc32(content))


def is_intact(content: bytes, digest: str, crc: int | None = None) -> bool:
    """Whether content is unchanged: by its CRC-32 if known, which detects disk errors, else by its digest."""
    return hashlib.sha256(content).hexdigest() == digest if crc is None else crc_of(content) == crc
