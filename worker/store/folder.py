"""A store in a folder, which several machines may mount. Files are 0600 in 0700 folders: they hold patient data."""

import contextlib
import filecmp
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from worker.errors import StorageUnavailable, StoredFileLost
from worker.store.contract import ENDINGS, OBJECTS, RESTORE, Kept, Stored, is_intact

#: A file is compared in pieces of this size: another copy of an image would double what intake holds in memory.
PIECE_BYTES = 2**20


class FolderStore:
    """A folder of immutable files, two levels deep by the first two digits of the digest."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = str(folder)

    def path(self, kind: str, digest: str) -> Path:
        """The path of the content of this digest, whether it exists or not."""
        return self.folder.joinpath(kind, digest[:2], digest + ENDINGS[kind])

    def place(self, kind: str, digest: str) -> str:
        """The path of the content of this digest."""
        return str(self.path(kind, digest))

    def put(self, kind: str, content: bytes, digest: str | None = None) -> str:
        """`keep`, for those who only want the digest."""
        return self.keep(kind, content, digest).digest

    def keep(self, kind: str, content: bytes, digest: str | None = None) -> Kept:
        """Keep `content`: written to a temporary file, fsynced and renamed, so it is complete or absent.

        A file that exists is compared byte for byte, and replaced if it differs or cannot be read.
        `digest`: of the content, if known already. Raises StorageUnavailable when the disk is full or unavailable.
        """
        digest = digest or hashlib.sha256(content).hexdigest()
        target = self.path(kind, digest)
        draft = target.with_name(f".{digest}.{secrets.token_hex(4)}.partial")
        try:
            if _holds(target, content):
                os.utime(target)  # a new date keeps `remove` from removing it
                return Kept(digest, is_proved=True)
            for folder in (self.folder, self.folder / kind, target.parent):
                _make(folder)
            _write(draft, content)
            draft.replace(target)
            _fsync_folder(target.parent)
        except OSError as error:
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)
            raise StorageUnavailable(f"cannot write to the store ({error.strerror})").about(str(self.folder)) from error
        return Kept(digest, is_proved=False)

    def adopt(self, kind: str, file: Path, digest: str) -> Kept:
        """`keep` for the content of a durable file on the same file system, by renaming it.

        Raises StorageUnavailable when the disk is full or unavailable.
        """
        target = self.path(kind, digest)
        try:
            if _is_same(target, file):
                os.utime(target)  # a new date keeps `remove` from removing it
                file.unlink()
                return Kept(digest, is_proved=True)
            for folder in (self.folder, self.folder / kind, target.parent):
                _make(folder)
            file.replace(target)
            _fsync_folder(target.parent)
        except OSError as error:
            raise StorageUnavailable(f"cannot write to the store ({error.strerror})").about(str(self.folder)) from error
        return Kept(digest, is_proved=False)

    def get(self, kind: str, digest: str, crc: int | None = None) -> bytes:
        """The content of a digest, verified by its CRC-32 if known.

        Raises StorageUnavailable when the store is unavailable, StoredFileLost when only this file is gone or damaged.
        """
        path = self.path(kind, digest)
        try:
            with path.open("rb", buffering=0) as file:
                content = file.readall()
                if kind == OBJECTS and hasattr(
                    os, "posix_fadvise"
                ):  # it is read only once: keep the page cache for other files
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        except OSError as error:
            if isinstance(error, FileNotFoundError) and (self.folder / kind).is_dir():
                raise StoredFileLost(f"the stored file is gone: {RESTORE}").about(str(path)) from error
            raise StorageUnavailable(f"cannot read from the store ({error.strerror})").about(str(path)) from error
        if not is_intact(content, digest, crc):
            raise StoredFileLost(f"the stored file is damaged: {RESTORE}").about(str(path))
        return content

    def has(self, kind: str, digest: str) -> bool:
        """Whether the content exists (by name; `get` verifies it)."""
        return self.path(kind, digest).exists()

    def files(self, kind: str) -> Iterator[Stored]:
        """Every file of a kind; raises StorageUnavailable."""
        try:
            for path in (self.folder / kind).glob("??/*"):
                with contextlib.suppress(FileNotFoundError):  # an unfinished file that was renamed meanwhile
                    status = path.stat()
                    yield Stored(str(path), path.name.removesuffix(ENDINGS[kind]), status.st_size, status.st_mtime)
        except OSError as error:
            raise StorageUnavailable(f"cannot reach the store ({error.strerror})").about(str(self.folder)) from error

    def remove(self, stored: Stored, latest: float) -> bool:
        """Remove a file, unless it was put again after the moment `latest`; raises StorageUnavailable."""
        path = Path(stored.place)
        try:
            if path.stat().st_mtime > latest:
                return False
            path.unlink()
        except FileNotFoundError:
            return True  # another process removed it first
        except OSError as error:
            raise StorageUnavailable(f"cannot write to the store ({error.strerror})").about(str(self.folder)) from error
        return True

    def keep_once(self, name: str, content: bytes) -> bytes:
        """Keep `content`, fsynced, under a plain name, unless that exists; returns what then has the name."""
        path = self.folder / name
        try:
            _make(self.folder)
            with contextlib.suppress(FileExistsError):
                _write(path, content)
                _fsync_folder(self.folder)
            return path.read_bytes()
        except OSError as error:
            raise StorageUnavailable(f"cannot be used ({error.strerror})").about(str(path)) from error

    def prove_writable(self) -> None:
        """Write a megabyte and remove it again; raises StorageUnavailable when the disk is full or unavailable."""
        path = self.path(OBJECTS, self.put(OBJECTS, secrets.token_bytes(2**20)))
        try:
            path.unlink()
        except OSError as error:
            raise StorageUnavailable(f"cannot write to the store ({error.strerror})").about(str(self.folder)) from error

    def free_mib(self) -> float:
        """Free space on the store's disk; raises StorageUnavailable when it cannot be asked."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            return shutil.disk_usage(self.folder).free / 2**20
        except OSError as error:
            raise StorageUnavailable(f"cannot reach the store ({error.strerror})").about(str(self.folder)) from error


def _holds(path: Path, content: bytes) -> bool:
    """Whether the file holds just this content. One that a bad disk no longer gives does not."""
    expected, at = memoryview(content), 0
    try:
        with path.open("rb", buffering=0) as file:
            if os.fstat(file.fileno()).st_size != len(content):
                return False
            while piece := file.read(PIECE_BYTES):
                if piece != expected[at : at + len(piece)]:
                    return False
                at += len(piece)
    except OSError:
        return False
    return at == len(content)


def _is_same(path: Path, other: Path) -> bool:
    """Whether two files hold the same content. One that a bad disk no longer gives, or that is gone, does not."""
    try:
        return filecmp.cmp(path, other, shallow=False)
    except OSError:
        return False


def _make(folder: Path) -> None:
    """Make a folder that only its owner may read; `mkdir(parents=True)` would give the mode only to the last folder."""
    if not folder.is_dir():
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _fsync_folder(folder.parent)


def _write(path: Path, content: bytes) -> None:
    """Write a new file and fsync its content, but not its name; raises FileExistsError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _fsync_folder(folder: Path) -> None:
    """Make the rename itself survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
