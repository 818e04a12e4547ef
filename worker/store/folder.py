"""A store in a folder, which several machines may mount. Files are 0600 in 0700 folders: they hold patient data."""

import contextlib
import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from worker.errors import StorageUnavailable, StoredFileLost
from worker.store.contract import ENDINGS, OBJECTS, RESTORE, Kept, Stored, is_intact
from worker.store.disk import fsync_path, holds, holds_file, make_folder, make_folders, object_path, write_durably
from worker.store.links import FolderLinks, is_own
from worker.store.mounted_folders import MountedFolders

#: Whether the store is mounted is looked at so often.
MOUNTED_S = 1.0


class FolderStore:
    """A folder of immutable files, two levels deep by the first two digits of the digest."""

    def __init__(self, folder: Path, mounted: MountedFolders | None = None) -> None:
        self.folder, self.name = folder, str(folder)
        self.mounted = mounted  #: None: the store lies where the state folder does
        self._mounted_until_s = 0.0  #: on the steady clock: so long a proof holds

    def path(self, kind: str, digest: str) -> Path:
        """The path of the content of this digest, whether it exists or not."""
        return object_path(self.folder, kind, digest)

    def place(self, kind: str, digest: str) -> str:
        """The path of the content of this digest."""
        return str(self.path(kind, digest))

    def put(self, kind: str, content: bytes) -> str:
        """`keep`, returning only the digest."""
        return self.keep(kind, content).digest

    def keep(self, kind: str, content: bytes, digest: str | None = None) -> Kept:
        """Keep `content`: written to a temporary file, fsynced and renamed, so it is complete or absent.

        A file that exists is compared byte for byte, and replaced if it differs or cannot be read.
        `digest`: of the content, if known already. Raises StorageUnavailable when the disk is full or unavailable.
        """
        digest = digest or hashlib.sha256(content).hexdigest()
        target = self.path(kind, digest)
        draft = target.with_name(f".{digest}.{secrets.token_hex(4)}.partial")
        try:
            self._prove_mounted()
            is_proved = holds(target, content)
            if is_proved and is_own(target):
                os.utime(target)  # a new date keeps `remove` from removing it
                return Kept(digest, is_proved=True)
            make_folders(self.folder, kind, target.parent)
            write_durably(draft, content)
            draft.replace(target)
            fsync_path(target.parent)
        except OSError as error:
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)
            raise StorageUnavailable(f"cannot write to the store ({error.strerror})").about(str(self.folder)) from error
        return Kept(digest, is_proved)

    def adopt(self, kind: str, file: Path, digest: str) -> Kept:
        """`keep` for the content of a file on the same file system, by renaming it once it is durable.

        Raises StorageUnavailable when the disk is full or unavailable.
        """
        target = self.path(kind, digest)
        try:
            self._prove_mounted()
            is_proved = holds_file(target, file)
            if is_proved and is_own(target):
                os.utime(target)  # a new date keeps `remove` from removing it
                file.unlink()
                return Kept(digest, is_proved=True)
            make_folders(self.folder, kind, target.parent)
            fsync_path(file)
            file.replace(target)
            fsync_path(target.parent)
        except OSError as error:
            raise StorageUnavailable(f"cannot write to the store ({error.strerror})").about(str(self.folder)) from error
        return Kept(digest, is_proved)

    def draft(self, kind: str) -> Path:
        """The path of a new file for content whose digest is not known yet; `adopt` takes it over, `files` lists it.

        Raises StorageUnavailable.
        """
        name = secrets.token_hex(16)
        folder = self.folder / kind / name[:2]
        try:
            self._prove_mounted()
            make_folders(self.folder, kind, folder)
        except OSError as error:
            raise StorageUnavailable(f"cannot write to the store ({error.strerror})").about(str(self.folder)) from error
        return folder / f".{name}.partial"

    def links(self, kind: str) -> FolderLinks:
        """What links files into this store."""
        return FolderLinks(self.folder, kind, self._prove_mounted)

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
            fault = self._fault(kind) if isinstance(error, FileNotFoundError) else error
            if fault is None:
                raise StoredFileLost(f"the stored file is gone: {RESTORE}").about(str(path)) from error
            raise StorageUnavailable(f"cannot read from the store ({fault.strerror})").about(str(path)) from error
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
            status = path.stat()
            is_linked = status.st_nlink > 1  # it is being taken in, and has the date of its sender until that is booked
            if status.st_mtime > latest or (is_linked and status.st_ctime > latest):
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
            self._prove_mounted()
            make_folder(self.folder)
            with contextlib.suppress(FileExistsError):
                write_durably(path, content)
                fsync_path(self.folder)
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
            self._prove_mounted()
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            return shutil.disk_usage(self.folder).free / 2**20
        except OSError as error:
            raise StorageUnavailable(f"cannot reach the store ({error.strerror})").about(str(self.folder)) from error

    def _fault(self, kind: str) -> OSError | None:
        """Why no file of a kind can be read; None when just one is gone."""
        self._mounted_until_s = 0.0  # a proof of a moment ago says nothing of a share that went since
        try:
            self._prove_mounted()
            (self.folder / kind).stat()
        except OSError as error:
            return error
        return None

    def _prove_mounted(self) -> None:
        """Raise OSError when the share of the store is gone: what its mount point gets would be hidden later."""
        now_s = time.monotonic()
        if self.mounted is None or now_s < self._mounted_until_s:
            return
        with contextlib.suppress(FileNotFoundError):  # it is made when something is written
            self.mounted.prove_path(self.folder)
        self._mounted_until_s = now_s + MOUNTED_S
