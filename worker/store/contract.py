"""What a store promises, whatever it lies on: immutable content by its digest. Names are never a word from a file."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

#: Each kind of content, and the ending of its names.
OBJECTS, OVERLAYS, MODELS, COMPARISONS = "objects", "overlays", "models", "comparisons"
ENDINGS = {OBJECTS: "", OVERLAYS: ".png", MODELS: ".onnx", COMPARISONS: ".json"}

#: What to do about a lost file.
RESTORE = "restore it from a backup, or send it again, and `worker requeue` its study"


@dataclass(frozen=True)
class Stored:
    """A file of the store, finished or a draft that was left behind."""

    place: str  #: as the store itself names it
    digest: str  #: of a draft: its name, which is no digest
    size_bytes: int
    modified_at: float  #: in seconds since 1970


class Store(Protocol):
    """Content under its digest: whole or absent, and the same however often it is put."""

    @property
    def name(self) -> str:
        """The store as people know it: a folder, or a URL."""

    def place(self, kind: str, digest: str) -> str:
        """Where people find the content of this digest: a path, or a URL."""

    def put(self, kind: str, content: bytes, digest: str | None = None) -> str:
        """Keep `content` and return its digest; what is there already is not written again.

        `digest`: of the content, where it is known already. Raises StorageUnavailable when the store is full or away.
        """

    def get(self, kind: str, digest: str, crc: int | None = None) -> bytes:
        """The content of a digest, proved by its CRC-32 where that is known, which is thirty times as quick.

        Raises StorageUnavailable when the store is away, StoredFileLost when this one file is gone or damaged.
        """

    def has(self, kind: str, digest: str) -> bool:
        """Whether the content is there (by name; `get` proves it)."""

    def files(self, kind: str) -> Iterator[Stored]:
        """Every file of a kind; raises StorageUnavailable."""

    def remove(self, stored: Stored, latest: float) -> bool:
        """Remove a file, unless somebody put it again after the moment `latest`; raises StorageUnavailable."""

    def keep_once(self, name: str, content: bytes) -> bytes:
        """Keep `content` under a plain name unless something lies there; returns what lies there then.

        Raises StorageUnavailable.
        """

    def prove_writable(self) -> None:
        """Write something and take it away again; raises StorageUnavailable when the store is full or away."""

    def free_mib(self) -> float:
        """Free space on the store's disk, infinite where there is none to fill; raises StorageUnavailable."""


#: A piece that stays in the processor's cache while two sums are made of it.
PIECE = 1 << 18


def sums_of(content: bytes) -> tuple[str, int]:
    """SHA-256, hexadecimal, and CRC-32 (ISO 3309) of content, which comes from memory once for both."""
    from imagecodecs import deflate_crc32

    digest, crc = hashlib.sha256(), 0
    whole: Any = memoryview(content)
    for start in range(0, len(content), PIECE):
        piece = whole[start : start + PIECE]
        digest.update(piece)
        crc = deflate_crc32(piece, crc)
    return digest.hexdigest(), int(crc)


def crc_of(content: bytes) -> int:
    """CRC-32 (ISO 3309), by the processor's own carry-less multiplication: half a millisecond for a radiograph."""
    from imagecodecs import deflate_crc32  # readers of the list do without

    return int(deflate_crc32(content))


def is_intact(content: bytes, digest: str, crc: int | None = None) -> bool:
    """Whether content is what was kept: by its CRC-32 against decay where that is known, else by its digest."""
    return hashlib.sha256(content).hexdigest() == digest if crc is None else crc_of(content) == crc
