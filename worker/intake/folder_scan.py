"""What lies in a folder: every file that may be a study, as it lies there now. Decides nothing, and takes nothing.

`Inbox` remembers what it saw, for a folder may hold hundreds of thousands of files, on a share where each question
takes a millisecond: a folder that has not changed is not listed again, and a file that is done is not asked again.
"""

import logging
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from schema.vocabulary import Priority
from worker.errors import StorageUnavailable
from worker.intake.ingest import STAT_FOLDER, modified_ns
from worker.ledger.arrivals import Incoming

log = logging.getLogger(__name__)

#: Files under these names are still being written, or are none of ours.
UNFINISHED_ENDINGS = (".partial", ".part", ".tmp", ".crdownload", ".filepart")

#: After this time everything is looked at anew: a done file may have been overwritten where it lies.
FULL_LOOK_S = 600.0

#: A listing counts for later when the folder had not changed for so long: shares keep the time of a change to 2 s.
SURE_AFTER_S = 5.0


@dataclass(frozen=True)
class Folder:
    """What a folder held when it was last listed."""

    mtime_ns: int
    since_s: float  #: unchanged since, on the steady clock
    listed_s: float
    below: list[str]  #: paths of its folders
    files: dict[str, tuple[bool, int]]  #: by path: whether it is a link, and its inode
    changed: frozenset[str]  #: paths that were not there before, or as another inode

    @property
    def is_sure(self) -> bool:
        """Whether the listing holds as long as the folder's time of change does."""
        return self.listed_s - self.since_s >= SURE_AFTER_S


@dataclass(frozen=True)
class Listing:
    """One look at an inbox."""

    files: list[Incoming]  #: in order of path, as they lie there now; without those that are done, but at a full look
    paths: list[str]  #: of every file
    is_changed: bool  #: whether a folder was listed anew: if not, nothing has gone
    unlisted: list[str]  #: folders that are there and could not be listed: nothing in them is known to be gone


class Inbox:
    """One folder and all below it, looked at again and again. `is_done` says which paths need no look at their file."""

    def __init__(
        self,
        folder: Path,
        is_done: Callable[[str], bool] = lambda _: False,
        unlisted: "Callable[[OSError], None] | None" = None,
        steady_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.folder, self.is_done, self.steady_s = folder, is_done, steady_s
        self.unlisted = unlisted or log_unlisted
        self._known: dict[str, Folder] = {}
        self._next_full_s = 0.0

    def look(self) -> Listing:
        """Everything there; hidden and unfinished names are passed over.

        A link to a folder is not followed, for it may lead anywhere, but given: intake refuses it, and people see that.
        `unlisted` is told of subfolders that cannot be listed. Raises StorageUnavailable when the folder itself cannot
        be: then nothing in it is known to be gone.
        """
        now_s = self.steady_s()
        if is_full := now_s >= self._next_full_s:
            self._known.clear()  # whatever lies there is then new
        files, paths, seen, unlisted = list[Incoming](), list[str](), dict[str, Folder](), list[str]()
        for folder, is_stat in self._folders(now_s, seen, unlisted):
            for path, (is_link, _) in folder.files.items():
                if path in folder.changed or not self.is_done(path):
                    file = _as_it_lies(path, is_link, Priority.STAT if is_stat else Priority.ROUTINE)
                    if file is None:
                        continue
                    files.append(file)
                paths.append(path)
        is_changed = seen.keys() != self._known.keys() or any(f.listed_s == now_s for f in seen.values())
        self._known = seen
        if is_full:
            self._next_full_s = self.steady_s() + FULL_LOOK_S
        return Listing(files, paths, is_changed, unlisted)

    def _folders(self, now_s: float, seen: dict[str, Folder], unlisted: list[str]) -> Iterator[tuple[Folder, bool]]:
        """Every folder, each before those below it, and whether its studies are STAT."""
        to_list = [(str(self.folder), False)]
        while to_list:  # folders may lie deeper than functions may call themselves
            here, is_stat = to_list.pop()
            try:
                folder = seen[here] = self._listed(here, now_s)
            except OSError as error:
                if here == str(self.folder):
                    raise StorageUnavailable(f"the inbox cannot be listed ({error.strerror})").about(here) from error
                self.unlisted(error)
                if not isinstance(error, FileNotFoundError | NotADirectoryError):
                    unlisted.append(here)
                continue
            to_list += [
                (path, is_stat or os.path.basename(path) == STAT_FOLDER)  # noqa: PTH119 ten times as fast
                for path in reversed(folder.below)
            ]
            yield folder, is_stat

    def _listed(self, here: str, now_s: float) -> Folder:
        before = self._known.get(here, NEVER_LISTED)
        mtime_ns = os.stat(here).st_mtime_ns  # noqa: PTH116
        is_unchanged = before.mtime_ns == mtime_ns
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
        return Folder(mtime_ns, before.since_s if is_unchanged else now_s, now_s, below, files, changed)


NEVER_LISTED = Folder(-1, 0.0, 0.0, [], {}, frozenset())


def log_unlisted(error: OSError) -> None:
    """Say that a subfolder could not be listed, without its name, which a person may have chosen."""
    log.warning("folder_not_listed", extra={"reason": error.strerror})


def files_in(folder: Path, unlisted: Callable[[OSError], None] = log_unlisted) -> list[Incoming]:
    """Every file below a folder that may be a study, looked at once. Raises as `Inbox.look`."""
    return Inbox(folder, unlisted=unlisted).look().files


def is_hidden(path: Path) -> bool:
    """Whether a path below the inbox is passed over."""
    return any(part.startswith(".") for part in path.parts)


def incoming(path: Path, priority: Priority = Priority.ROUTINE) -> Incoming | None:
    """A file as it lies there now (a link to nothing or to a folder: the link itself), or None when it is gone."""
    try:
        status = path.stat() if path.exists() and not path.is_dir() else path.lstat()
    except OSError:
        return None
    return Incoming(str(path), status.st_size, modified_ns(status), priority)


def _as_it_lies(path: str, is_link: bool, priority: Priority) -> Incoming | None:
    """`incoming` with one question to the file system, for what is no link."""
    if is_link:
        return incoming(Path(path), priority)
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return Incoming(path, status.st_size, modified_ns(status), priority)


def has_changed(file: Incoming) -> bool:
    """Whether the file lies there with another size or time than it was seen with."""
    now = incoming(Path(file.path))
    return now is not None and (now.size_bytes, now.mtime_ns) != (file.size_bytes, file.mtime_ns)


def remove_if_unchanged(file: Incoming) -> bool:
    """Take a booked file out of the inbox, unless it was written to since: then it comes again as another arrival.

    False when it lies there still; an inbox that lets nothing be removed is said and lived with.
    """
    path = Path(file.path)
    if has_changed(file):
        return False
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        log.error("file_not_removed", extra={"reason": error.strerror})
        return False
    return True
