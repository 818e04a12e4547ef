"""A file of an inbox becomes a file of the store by a second name (link(2)): no byte is copied.

Until its first name is removed, a program that writes to it there would change the stored file. So the caller keeps
writers out (`worker.intake.held_file`), and other callers do not rely on a stored file that has a second name.
"""

import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from errno import EMLINK
from pathlib import Path

from worker.errors import StorageUnavailable
from worker.store.contract import Kept
from worker.store.disk import fsync_path, holds_file, make_folder, make_folders, object_path, pieces
from worker.store.draft import Draft

#: Names of a file that is taken in: its own, and that in the store if a process was killed before it removed the first.
MOST_NAMES = 2

#: Names of the files that this process has open.
OPEN_FILES = "/proc/self/fd"


@dataclass(frozen=True)
class FolderLinks:
    """Links files into one kind of content of a store in a folder."""

    folder: Path  #: of the store
    kind: str
    prove_mounted: Callable[[], None] = lambda: None  #: raises OSError when the share of the store is gone

    def refusal(self, descriptor: int) -> str | None:
        """As the contract says."""
        status = os.fstat(descriptor)
        if status.st_uid != os.geteuid():
            return "it belongs to another user than this process runs as"
        if status.st_nlink > MOST_NAMES:
            return "it has another name already"
        try:
            self.prove_mounted()
            make_folder(self.folder)
            here = os.open(self.folder, os.O_PATH | os.O_DIRECTORY)
            try:
                is_here = _mount(here) == _mount(descriptor)
            finally:
                os.close(here)
        except OSError as error:
            return f"the store cannot be asked ({error.strerror})"
        return None if is_here else "it lies on another file system than the store, or on another mount of it"

    def take(self, descriptor: int, digest: str, on_linked: Callable[[], None] = lambda: None) -> Kept | None:
        """As the contract says."""
        target = object_path(self.folder, self.kind, digest)
        with suppress(OSError):  # copying meets the same fault, or none
            self.prove_mounted()
            make_folders(self.folder, self.kind, target.parent)
            return _link(descriptor, target, digest, on_linked)
        return None

    def separate(self, descriptor: int, digest: str) -> bool:
        """As the contract says; raises StorageUnavailable."""
        try:
            return _separate(descriptor, object_path(self.folder, self.kind, digest), digest)
        except OSError as error:
            raise StorageUnavailable(f"cannot write to the store ({error.strerror})").about(str(self.folder)) from error


def _link(descriptor: int, target: Path, digest: str, on_linked: Callable[[], None]) -> Kept:
    """Give the open file the name `target`. Raises OSError when it cannot be linked.

    A file of that name is compared byte for byte. It stays if it is the same and has no other name.
    """
    status, there = os.fstat(descriptor), _status(target)
    is_proved = there is not None and os.path.samestat(there, status)  # linked by a process that was killed
    if is_proved:
        os.fsync(descriptor)
    else:
        is_proved = there is not None and holds_file(target, descriptor)
        if is_proved and is_own(target):
            os.utime(target)  # a new date keeps `remove` from removing it
            return Kept(digest, is_proved=True)
        if status.st_nlink > 1:
            raise OSError(EMLINK, "it has another name already, by which it may be written to")
        os.fsync(descriptor)
        _name(descriptor, target, is_new=there is None)
    on_linked()
    fsync_path(target.parent)
    return Kept(digest, is_proved, is_linked=True)


def _separate(descriptor: int, target: Path, digest: str) -> bool:
    there = _status(target)
    if there is None or not os.path.samestat(there, os.fstat(descriptor)):
        return True
    draft = Draft(_draft(target))
    try:
        for piece in pieces(descriptor):
            draft.write(piece)
        draft.finish()
        if draft.sums.digest != digest:
            return False
        draft.path.replace(target)
        fsync_path(target.parent)
    finally:
        draft.discard()
    return True


def is_own(stored: Path) -> bool:
    """Whether a stored file has no other name, by which somebody could write to it."""
    return stored.stat().st_nlink == 1


def add_name(descriptor: int, path: Path) -> None:
    """Give an open file another name; raises OSError, FileExistsError among them."""
    folder = os.open(OPEN_FILES, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.link(str(descriptor), path, src_dir_fd=folder, follow_symlinks=True)
    finally:
        os.close(folder)


def _name(descriptor: int, target: Path, *, is_new: bool) -> None:
    if is_new:
        try:
            add_name(descriptor, target)
        except FileExistsError:  # another process was faster
            is_new = False
    if not is_new:
        draft = _draft(target)
        add_name(descriptor, draft)
        draft.replace(target)


def _draft(target: Path) -> Path:
    return target.with_name(f".{target.name}.{secrets.token_hex(4)}.partial")


def _mount(descriptor: int) -> str:
    """The mount in which a file was opened (proc(5), fdinfo): no link leads out of it, not even to the same disk."""
    lines = Path(f"/proc/self/fdinfo/{descriptor}").read_text(encoding="ascii").splitlines()
    return next(line for line in lines if line.startswith("mnt_id:"))


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat(follow_symlinks=False)
    except FileNotFoundError:
        return None
