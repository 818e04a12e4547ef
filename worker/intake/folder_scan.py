"""List every file in a folder that may be a study, with its present size and time. Reads and moves no file.

`Inbox` remembers earlier listings, because a folder may hold hundreds of thousands of files, on a share where each
system call takes a millisecond: an unchanged folder is not listed again, and a file that is done is not checked again.
"""

import hashlib
import logging
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from schema.vocabulary import Priority
from worker.errors import StorageUnavailable
from worker.intake.reader import is_stat_folder
from worker.intake.source_file import modified_ns, open_at_once
from worker.intake.write_lease import is_written
from worker.ledger.intake.arrivals import AsRead, Incoming
from worker.store.mounted_folders import MountedFolders, not_mounted

log = logging.getLogger(__name__)

#: Files with these endings are still being written, or are not for us.
UNFINISHED_ENDINGS = (".partial", ".part", ".tmp", ".crdownload", ".filepart")

#: After this time every file is checked again, because a done file may have been overwritten in place.
FULL_SCAN_S = 600.0

#: A listing is kept when the folder had been unchanged for this time: shares store the time of a change to 2 s.
SURE_AFTER_S = 5.0


@dataclass(frozen=True)
class Folder:
    """The content of a folder when it was last listed."""

    path: str
    mtime_ns: int
    since_s: float  #: unchanged since, on the steady clock
    listed_s: float
    below: list[str]  #: paths of its subfolders
    files: dict[str, tuple[bool, int]]  #: by path: whether it is a link, and its inode
    changed: frozenset[str]  #: paths that are new or have another inode
    device: int = 0

    @property
    def is_sure(self) -> bool:
        """Whether the listing is valid as long as the folder's time of change stays the same."""
        return self.listed_s - self.since_s >= SURE_AFTER_S


@dataclass(frozen=True)
class Listing:
    """One listing of an inbox."""

    files: list[Incoming]  #: in order of path, with present size and time; done files only in a full listing
    paths: list[str]  #: of every file
    is_changed: bool  #: whether a folder was listed again; if not, no file is gone
    unlisted: list[str]  #: folders that could not be listed, or whose share is gone; their files may still be there


class Inbox:
    """One folder and all folders below it, listed repeatedly. A path for which `is_done` is true is not checked, and of
    a folder for which `is_ours` is false no file is: only its paths are given."""

    def __init__(
        self,
        folder: Path,
        is_done: Callable[[str], bool] = lambda _: False,
        home: Path | None = None,
        is_ours: Callable[[str], bool] = lambda _: True,
        unlisted: "Callable[[OSError], None] | None" = None,
        steady_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.folder, self.is_done, self.steady_s, self.is_ours = folder, is_done, steady_s, is_ours
        self.mounted = MountedFolders(home)
        self.unlisted = unlisted or log_unlisted
        self._known: dict[str, Folder] = {}
        self._next_full_s = 0.0

    def check_all(self) -> None:
        """Check every file again at the next scan, also in folders that have not changed."""
        self._next_full_s = -math.inf

    def prove_listed(self) -> None:
        """Raise StorageUnavailable when the folder itself cannot be listed, or it or one above it is not mounted."""
        try:
            self.mounted.prove_path(self.folder)
            os.scandir(self.folder).close()
        except OSError as error:
            raise _not_listed(str(self.folder), error) from error

    def prove_gone(self, path: str) -> None:
        """Raise StorageUnavailable when a file below may be absent only because a share is."""
        self.prove_listed()
        try:
            self.mounted.prove_path(Path(path).parent)
        except (FileNotFoundError, NotADirectoryError):
            return  # its folder went with it
        except OSError as error:
            raise _not_listed(str(self.folder), error) from error

    def scan(self) -> Listing:
        """All files, without hidden and unfinished names.

        A link to a folder is not followed, because it may lead anywhere, but it is in the listing: intake refuses it,
        so people see it. `unlisted` is called for subfolders that cannot be listed, or were mounts and are none now, or
        gone.
        Raises StorageUnavailable when that is so of the folder itself, or a mount above it is gone; its files may still
        be there.
        """
        now_s = self.steady_s()
        if is_full := now_s >= self._next_full_s:
            self._known.clear()  # so every file counts as new
        files, paths, seen, unlisted = list[Incoming](), list[str](), dict[str, Folder](), list[str]()
        for folder, is_stat in self._folders(now_s, seen, unlisted):
            if not self.is_ours(folder.path):
                paths += folder.files
                continue
            for path, (is_link, _) in folder.files.items():
                if path in folder.changed or not self.is_done(path):
                    file = _present(path, is_link, Priority.STAT if is_stat else Priority.ROUTINE)
                    if file is None:
                        continue
                    files.append(file)
                paths.append(path)
        for path in self.mounted.absent(f"{self.folder}{os.sep}"):
            if path not in unlisted:
                self.unlisted(not_mounted(path))
                unlisted.append(path)
        is_changed = seen.keys() != self._known.keys() or any(f.listed_s == now_s for f in seen.values())
        if is_changed:
            self._prove_again(seen)
        self._known = seen
        if is_full:
            self._next_full_s = self.steady_s() + FULL_SCAN_S
        return Listing(files, paths, is_changed, unlisted)

    def _folders(self, now_s: float, seen: dict[str, Folder], unlisted: list[str]) -> Iterator[tuple[Folder, bool]]:
        """Every folder, each before its subfolders, and whether its studies are STAT."""
        to_list = [(str(self.folder), False, -1)]
        while to_list:  # a loop, because folders may be nested deeper than the recursion limit
            here, is_stat, device_above = to_list.pop()
            try:
                folder = seen[here] = self._listed(here, now_s, device_above)
            except OSError as error:
                if here == str(self.folder):
                    raise _not_listed(here, error) from error
                self.unlisted(error)
                if not isinstance(error, FileNotFoundError | NotADirectoryError):
                    unlisted.append(here)
                continue
            to_list += [
                (path, is_stat or is_stat_folder(os.path.basename(path)), folder.device)  # noqa: PTH119 ten times as fast
                for path in reversed(folder.below)
            ]
            yield folder, is_stat

    def _listed(self, here: str, now_s: float, device_above: int) -> Folder:
        before, is_root = self._known.get(here, NEVER_LISTED), device_above < 0
        status = self.mounted.prove_path(self.folder) if is_root else self.mounted.prove(here, device_above)
        mtime_ns = status.st_mtime_ns
        is_unchanged = (before.mtime_ns, before.device) == (mtime_ns, status.st_dev)
        if is_unchanged and before.is_sure:
            return replace(before, changed=frozenset())
        with os.scandir(here) as listing:
            entries = sorted((e for e in listing if not e.name.startswith(".")), key=lambda entry: entry.name)
        below = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
        folders = set(below)
        files = {
            entry.path: (entry.is_symlink(), entry.inode())
            for entry in entries
            if entry.path not in folders and not entry.name.lower().endswith(UNFINISHED_ENDINGS)
        }
        changed = frozenset(path for path, kind in files.items() if before.files.get(path) != kind)
        since_s = before.since_s if is_unchanged else now_s
        return Folder(here, mtime_ns, since_s, now_s, below, files, changed, status.st_dev)

    def _prove_again(self, seen: dict[str, Folder]) -> None:
        """Raise StorageUnavailable when a share went while it was listed: what was not found there is not gone."""
        try:
            self.mounted.prove_path(self.folder)
            for path in self.mounted.among(seen.keys() - {str(self.folder)}):
                self.mounted.prove(path, seen[os.path.dirname(path)].device)  # noqa: PTH120
        except OSError as error:
            raise _not_listed(str(self.folder), error) from error


NEVER_LISTED = Folder("", -1, 0.0, 0.0, [], {}, frozenset())


def _not_listed(folder: str, error: OSError) -> StorageUnavailable:
    return StorageUnavailable(f"the inbox cannot be listed ({error.strerror})").about(folder)


def log_unlisted(error: OSError) -> None:
    """Log that a subfolder could not be listed, without its name, which may contain a patient's."""
    log.warning("folder_not_listed", extra={"reason": error.strerror})


def files_in(folder: Path, unlisted: Callable[[OSError], None] = log_unlisted) -> list[Incoming]:
    """Every file below a folder that may be a study, listed once. Raises as `Inbox.scan`."""
    return Inbox(folder, unlisted=unlisted).scan().files


def is_hidden(path: Path) -> bool:
    """Whether a path below the inbox is skipped."""
    return any(part.startswith(".") for part in path.parts)


def incoming(path: Path, priority: Priority = Priority.ROUTINE) -> Incoming | None:
    """A file with its present size and time (of the link, if that leads to nothing or a folder); None if it is gone."""
    try:
        status = path.stat() if path.exists() and not path.is_dir() else path.lstat()
    except OSError:
        return None
    return Incoming(str(path), status.st_size, modified_ns(status), priority)


def _present(path: str, is_link: bool, priority: Priority) -> Incoming | None:
    """`incoming` with a single system call, for files that are not links."""
    if is_link:
        return incoming(Path(path), priority)
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return Incoming(path, status.st_size, modified_ns(status), priority)


def has_changed(file: Incoming, as_read: AsRead | None = None) -> bool:
    """Whether the file has another size or time than when it was listed, or other bytes than those that were read.

    A file that a process has open for writing counts as changed.
    """
    now = incoming(Path(file.path))
    if now is None:
        return False
    if (now.size_bytes, now.mtime_ns) != (file.size_bytes, file.mtime_ns):
        return True
    return as_read is not None and not _is_as_read(file.path, as_read)


def _is_as_read(path: str, as_read: AsRead) -> bool:
    """Whether no process writes to the file, and it has the bytes that were read: if its ctime changed, by digest."""
    try:
        with open(path, "rb", opener=open_at_once) as source:
            if is_written(source.fileno()):
                return False
            if os.fstat(source.fileno()).st_ctime_ns == as_read.ctime_ns:
                return True
            return hashlib.file_digest(source, "sha256").hexdigest() == as_read.digest
    except OSError:
        return True  # gone or unreadable: there is nothing new to be read


def remove_if_unchanged(file: Incoming, as_read: AsRead | None = None) -> bool:
    """Remove a recorded file from the inbox, unless `has_changed`: then it comes again as another arrival.

    False when it is still there; a file that cannot be removed is logged.
    """
    if has_changed(file, as_read):
        return False
    try:
        Path(file.path).unlink(missing_ok=True)
    except OSError as error:
        log.error("file_not_removed", extra={"reason": error.strerror})
        return False
    return True
