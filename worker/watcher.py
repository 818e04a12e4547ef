"""A folder -> settled files -> the ledger -> the queue. Events only wake the scan; the scan decides.

Also sweeps what was left behind: lapsed leases, lost messages, studies whose time has come.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path

from sqlalchemy import text

from schema.database import Database
from schema.vocabulary import FileState, Priority
from worker import pruning
from worker.errors import BadSetting, Interrupted, StorageUnavailable
from worker.intake import STAT_FOLDER, Intake, modified_ns
from worker.ledger import delivery, offers
from worker.ledger import intake as ledger
from worker.ledger.offers import Backlog, Offer
from worker.ledger.receipts import Incoming, spelled
from worker.ledger.transactions import reading
from worker.settings import InboxMode, Settings

log = logging.getLogger(__name__)

#: Files under these names are still being written, or are none of ours.
UNFINISHED_ENDINGS = (".partial", ".part", ".tmp", ".crdownload", ".filepart")


#: However long a scan takes, the next one does not wait longer for its turn.
LONGEST_REST_S = 60.0


@dataclass
class Watched:
    """What the watcher remembers of a path between two scans."""

    size_bytes: int
    mtime_ns: int
    since_s: float  #: unchanged since, on the steady clock


@dataclass
class Watcher:
    """Watches one inbox. `enqueue` publishes offers; `clock` gives aware moments, `steady_s` seconds without jumps."""

    intake: Intake
    inbox: Path
    enqueue: Callable[[Sequence[Offer]], None]
    backlog: Callable[[], Backlog]
    clock: Callable[[], datetime]
    steady_s: Callable[[], float] = time.monotonic
    waiting: dict[str, Watched] = field(default_factory=dict)
    booked: dict[str, tuple[int, int]] = field(default_factory=dict)  #: files left in the inbox: size and mtime

    def __post_init__(self) -> None:
        """Learn which files that still lie in the inbox were booked by an earlier process.

        Raises BadSetting when our own files lie in the inbox: they would be taken in, and away.
        """
        settings = self.intake.settings
        for name, folder in (("SCREENING_HOME", settings.home), ("SCREENING_STORE", settings.store_folder)):
            if (
                folder is not None
                and folder.is_relative_to(self.inbox)
                and not is_hidden(folder.relative_to(self.inbox))
            ):
                raise BadSetting(f"{name} lies in the inbox, whose files are taken away: choose a folder elsewhere")
        if settings.inbox_mode is not InboxMode.MOVE:
            self.booked = booked_files(self.intake.database, str(self.inbox))

    def run(self, stop: threading.Event) -> None:
        """Scan and sweep until `stop`; outages of store, database and broker are logged and outlasted."""
        with woken_by_events(self.inbox) as wake:
            while not stop.is_set():
                began_s = time.monotonic()
                for work in (self.make_room, self.scan, self.sweep):  # a full disk stops the one and not the other
                    try:
                        work()
                    except Interrupted as error:
                        log.error("outage", extra={"code": error.code, "reason": error.message})
                stop.wait(
                    min(time.monotonic() - began_s, LONGEST_REST_S)
                )  # an inbox that is long to list rests as long
                wake.wait(self.intake.settings.scan_interval_s)
                wake.clear()

    def make_room(self) -> None:
        """Let go of what was read the longest ago when the store nears its quota."""
        intake = self.intake
        pruned = pruning.keep_quota(intake.settings, intake.database, intake.store, intake.room, self.clock())
        if pruned is not None:
            log.info("room_made", extra=asdict(pruned))

    def scan(self) -> None:
        """Look at every file of the inbox once: take in what has settled, note what has not, book what is gone."""
        now, now_s = self.clock(), self.steady_s()
        present = {file.path: file for file in files_in(self.inbox)}
        settings = self.intake.settings
        unsettled = []
        for file in present.values():
            if self.booked.get(spelled(file.path)) == (file.size_bytes, file.mtime_ns):
                continue
            quiet_s = self._quiet_s(file, now_s)
            if quiet_s < settings.file_quiet_s or (file.size_bytes == 0 and quiet_s < settings.truncated_after_s):
                unsettled.append(file)
                continue
            self._take_in(file, now, is_final=quiet_s >= settings.truncated_after_s)
        ledger.wait(self.intake.database, [f for f in unsettled if self.waiting[f.path].since_s == now_s], now)
        there = {spelled(path) for path in present}  # an earlier process may have left rows that wait
        ledger.vanish(self.intake.database, lambda path: path in there, under=spelled(f"{self.inbox}{os.sep}"))
        for path in self.waiting.keys() - present.keys():
            del self.waiting[path]
        for path in self.booked.keys() - there:
            del self.booked[path]

    def sweep(self) -> None:
        """Heal, enqueue and move what is known."""
        sweep(self.intake.database, self.intake.settings, self.enqueue, self.backlog, self.clock())

    def _quiet_s(self, file: Incoming, now_s: float) -> float:
        """For how long the file has not changed under our eyes."""
        seen = self.waiting.get(file.path)
        if seen is None or (seen.size_bytes, seen.mtime_ns) != (file.size_bytes, file.mtime_ns):
            seen = self.waiting[file.path] = Watched(file.size_bytes, file.mtime_ns, now_s)
        return now_s - seen.since_s

    def _take_in(self, file: Incoming, now: datetime, is_final: bool) -> None:
        booked = self.intake.take_in(file, now, is_final=is_final, is_settled=False, inbox=self.inbox)
        if booked.state is FileState.WAITING:
            return
        self.waiting.pop(file.path, None)
        log.info("file_booked", extra={"state": str(booked.state), "study_uid": booked.study_uid})
        is_ours = self.intake.settings.inbox_mode is InboxMode.MOVE and booked.is_in_store
        if not (is_ours and remove_if_unchanged(file)):
            self.booked[spelled(file.path)] = (file.size_bytes, file.mtime_ns)


def log_unlisted(error: OSError) -> None:
    """Say that a subfolder could not be listed, without its name, which a person may have chosen."""
    log.warning("folder_not_listed", extra={"reason": error.strerror})


def files_in(folder: Path, unlisted: Callable[[OSError], None] = log_unlisted) -> Iterator[Incoming]:
    """Every file below a folder that may be a study, in order of path; hidden and unfinished ones are passed over.

    A link to a folder is not followed, for it may lead anywhere, but given: intake refuses it, and people see that.
    `unlisted` is told of subfolders that cannot be listed. Raises StorageUnavailable when the folder itself cannot be:
    then nothing in it is known to be gone.
    """

    def tell(error: OSError) -> None:
        if error.filename == str(folder):
            raise StorageUnavailable(f"the inbox cannot be listed ({error.strerror})").about(str(folder)) from error
        unlisted(error)

    to_list = [(str(folder), False)]
    while to_list:  # folders may lie deeper than functions may call themselves
        here, is_stat = to_list.pop()
        try:
            with os.scandir(here) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            tell(error)
            continue
        visible = [entry for entry in entries if not entry.name.startswith(".")]
        below = [entry for entry in visible if entry.is_dir(follow_symlinks=False)]
        to_list += [(entry.path, is_stat or entry.name == STAT_FOLDER) for entry in reversed(below)]
        for entry in visible:
            if entry.is_dir(follow_symlinks=False) or entry.name.lower().endswith(UNFINISHED_ENDINGS):
                continue
            file = _as_it_lies(entry, is_stat)
            if file is not None:
                yield file


def is_hidden(path: Path) -> bool:
    """Whether a path below the inbox is passed over."""
    return any(part.startswith(".") for part in path.parts)


def incoming(path: Path) -> Incoming | None:
    """A file as it lies there now (a link to nothing or to a folder: the link itself), or None when it is gone."""
    try:
        status = path.stat() if path.exists() and not path.is_dir() else path.lstat()
    except OSError:
        return None
    return Incoming(str(path), status.st_size, modified_ns(status))


def _as_it_lies(entry: "os.DirEntry[str]", is_stat: bool) -> Incoming | None:
    """`incoming` for an entry of a listing: three times as fast, and an inbox may hold hundreds of thousands."""
    try:
        leads_to_file = entry.is_file()
    except OSError:  # a link to itself
        leads_to_file = False
    try:
        status = entry.stat(follow_symlinks=leads_to_file or not entry.is_symlink())
    except OSError:
        return None
    priority = Priority.STAT if is_stat else Priority.ROUTINE
    return Incoming(entry.path, status.st_size, modified_ns(status), priority)


def remove_if_unchanged(file: Incoming) -> bool:
    """Take a booked file out of the inbox, unless it was written to since: then it comes again as another arrival.

    False when it lies there still; an inbox that lets nothing be removed is said and lived with.
    """
    path = Path(file.path)
    now = incoming(path)
    if now is not None and (now.size_bytes, now.mtime_ns) != (file.size_bytes, file.mtime_ns):
        return False
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        log.error("file_not_removed", extra={"reason": error.strerror})
        return False
    return True


def booked_files(database: Database, inbox: str) -> dict[str, tuple[int, int]]:
    """Size and mtime of the files below `inbox` as they were last booked."""
    statement = text(
        "SELECT path, size_bytes, mtime_ns FROM arrival WHERE state NOT IN ('waiting', 'vanished') ORDER BY id"
    )
    with reading(database) as connection:
        return {
            path: (size, mtime)
            for path, size, mtime in connection.execute(statement)
            if path.startswith(inbox + os.sep)
        }


def sweep(
    database: Database,
    settings: Settings,
    enqueue: Callable[[Sequence[Offer]], None],
    backlog: Callable[[], Backlog],
    now: datetime,
) -> None:
    """Heal lapsed claims, enqueue settled studies, offer lost ones again, and move those whose time has come."""
    delivery.heal(database, settings, now)
    delivery.advance(database, now)
    enqueue(offers.offer(database, now))
    enqueue(offers.reoffer(database, settings, now, backlog()))


@contextmanager
def woken_by_events(inbox: Path) -> Iterator[threading.Event]:
    """An event that is set when something happens in the folder; network shares send none, and then nothing is lost."""
    from watchdog.events import FileSystemEvent, FileSystemEventHandler
    from watchdog.observers import Observer

    wake = threading.Event()

    class Waker(FileSystemEventHandler):
        def on_any_event(self, event: FileSystemEvent) -> None:
            if event.event_type in ("created", "closed", "moved"):
                wake.set()

    observer = Observer()
    observer.schedule(Waker(), str(inbox), recursive=True)
    observer.start()
    try:
        yield wake
    finally:
        observer.stop()
        observer.join()
