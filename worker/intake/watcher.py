"""A folder -> settled files -> the ledger -> the queue. Events only wake the scan; the scan decides.

Also sweeps what was left behind: lapsed leases, lost messages, studies whose time has come.
"""

import itertools
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from sqlalchemy import text

from schema.database import Database
from schema.vocabulary import FileState, Priority
from worker.errors import BadSetting, Interrupted
from worker.intake.folder_scan import Inbox, Listing, has_changed, is_hidden, remove_if_unchanged
from worker.intake.ingest import Intake, Order
from worker.ledger import claims, outbox, pruning
from worker.ledger import register as ledger
from worker.ledger.arrivals import Incoming, Registration
from worker.ledger.identifiers import IdentifierPolicy
from worker.ledger.outbox import Backlog, Offer
from worker.ledger.transactions import reading
from worker.settings import InboxMode, Settings

log = logging.getLogger(__name__)

T = TypeVar("T")

#: However long an inbox takes to list, the next listing does not wait longer for its turn.
LONGEST_REST_S = 60.0

#: Files are taken in for so long between two looks at the inbox, or as long as a look takes, up to LONGEST_REST_S: a
#: STAT study behind thousands waits no longer.
TAKING_S = 10.0

#: A settled study waits no longer until it is enqueued, whatever the watcher does meanwhile.
OFFER_S = 0.5

#: An outage that lasts is told again after this time.
OUTAGE_TOLD_S = 60.0


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
    folder: Path
    enqueue: Callable[[Sequence[Offer]], None]
    backlog: Callable[[], Backlog]
    clock: Callable[[], datetime]
    steady_s: Callable[[], float] = time.monotonic
    waiting: dict[str, Watched] = field(default_factory=dict)
    booked: dict[str, tuple[int, int]] = field(default_factory=dict)  #: files left in the inbox: size and mtime
    listing_s: float = 0.0  #: what the last look at the inbox took
    outages: dict[str, tuple[str, float]] = field(default_factory=dict)  #: work -> code of what stops it, when told
    inbox: Inbox = field(init=False)

    def __post_init__(self) -> None:
        """Learn which files that still lie in the inbox were booked by an earlier process.

        Raises BadSetting when our own files lie in the inbox: they would be taken in, and away.
        """
        settings = self.intake.settings
        for name, folder in (("SCREENING_HOME", settings.home), ("SCREENING_STORE", settings.store_folder)):
            if (
                folder is not None
                and folder.is_relative_to(self.folder)
                and not is_hidden(folder.relative_to(self.folder))
            ):
                raise BadSetting(f"{name} lies in the inbox, whose files are taken away: choose a folder elsewhere")
        if settings.inbox_mode is not InboxMode.MOVE:
            self.booked = booked_files(self.intake.database, str(self.folder), self.intake.identifiers)
        self.inbox = Inbox(self.folder, self._is_done, steady_s=self.steady_s)

    def run(self, stop: threading.Event) -> None:
        """Scan and sweep until `stop`; outages of store, database and broker are logged and outlasted."""
        with woken_by_events(self.folder) as wake:
            while not stop.is_set():
                self._outlast("make_room", self.make_room)
                is_through = self._outlast("scan", self.scan)
                self._outlast("sweep", self.sweep)  # a full disk stops the one and not the other
                if is_through is not False:
                    self._rest(stop, wake)
                    wake.clear()

    def _rest(self, stop: threading.Event, wake: threading.Event) -> None:
        """Wait for the next scan; studies that settle meanwhile are offered at once."""
        earliest_s = self.steady_s() + min(self.listing_s, LONGEST_REST_S)  # one that is long to list rests as long
        latest_s = earliest_s + self.intake.settings.scan_interval_s
        while (now_s := self.steady_s()) < latest_s and not (wake.is_set() and now_s >= earliest_s):
            if stop.wait(min(OFFER_S, latest_s - now_s)):
                return
            self._outlast("sweep", self.offer, is_proof=False)

    def _outlast(self, name: str, work: Callable[[], T], *, is_proof: bool = True) -> T | None:
        """What the work gives; None in an outage. `is_proof`: when it succeeds, the outage of this name is over."""
        try:
            result = work()
        except Interrupted as error:
            self._tell_outage(name, error)
            return None
        if is_proof and name in self.outages:
            del self.outages[name]
            log.warning("outage_over", extra={"work": name})
        return result

    def _tell_outage(self, work: str, error: Interrupted) -> None:
        """At once when it is news, then once a minute."""
        code, told_s = self.outages.get(work, ("", 0.0))
        if code != error.code or self.steady_s() - told_s >= OUTAGE_TOLD_S:
            self.outages[work] = error.code, self.steady_s()
            log.error("outage", extra={"work": work, "code": error.code, "reason": error.message})

    def make_room(self) -> None:
        """Let go of what was read the longest ago when the store nears its quota."""
        intake = self.intake
        pruned = pruning.keep_quota(intake.settings, intake.database, intake.store, intake.capacity, self.clock())
        if pruned is not None:
            log.info("room_made", extra=asdict(pruned))

    def scan(self) -> bool:
        """Look at the inbox once: note what has not settled and what is gone, take in what has settled, STAT first.

        False when more has settled than could be taken in.
        """
        now, now_s = self.clock(), self.steady_s()
        listing = self.inbox.look()
        self.listing_s = self.steady_s() - now_s
        settings = self.intake.settings
        settled, unsettled = list[Order](), list[Incoming]()
        for file in listing.files:
            if self.booked.get(self._spelled(file.path)) == (file.size_bytes, file.mtime_ns):
                continue
            quiet_s = self._quiet_s(file, now_s)
            if quiet_s < settings.file_quiet_s or (file.size_bytes == 0 and quiet_s < settings.truncated_after_s):
                unsettled.append(file)
            else:
                is_final = quiet_s >= settings.truncated_after_s
                settled.append(Order(file, self.folder, is_final=is_final, is_settled=False))
        new = [self.intake.identifiers.file(f) for f in unsettled if self.waiting[f.path].since_s == now_s]
        ledger.wait(self.intake.database, new, now)
        if listing.is_changed:
            self._forget(listing)
        return self._take_in(sorted(settled, key=lambda order: order.file.priority is not Priority.STAT))

    def _forget(self, listing: Listing) -> None:
        """Book as gone what waited and lies there no more."""
        unseen = tuple(f"{folder}{os.sep}" for folder in listing.unlisted)
        unseen_spelled = tuple(map(self._spelled, unseen))
        there = {self._spelled(path) for path in listing.paths}  # an earlier process may have left rows that wait

        def may_be_there(path: str) -> bool:
            return path in there or path.startswith(unseen_spelled)

        ledger.record_vanished(self.intake.database, may_be_there, under=self._spelled(f"{self.folder}{os.sep}"))
        for path in self.waiting.keys() - set(listing.paths):
            if not path.startswith(unseen):
                del self.waiting[path]
        for path in [path for path in self.booked if not may_be_there(path)]:
            del self.booked[path]

    def offer(self) -> None:
        """Enqueue what has settled."""
        self.enqueue(outbox.offer(self.intake.database, self.clock()))

    def sweep(self) -> None:
        """Heal, enqueue and move what is known."""
        sweep(self.intake.database, self.intake.settings, self.enqueue, self.backlog, self.clock())

    def _is_done(self, path: str) -> bool:
        return path not in self.waiting and self._spelled(path) in self.booked

    def _spelled(self, path: str) -> str:
        return self.intake.identifiers.path(path)

    def _quiet_s(self, file: Incoming, now_s: float) -> float:
        """For how long the file has not changed under our eyes."""
        seen = self.waiting.get(file.path)
        if seen is None or (seen.size_bytes, seen.mtime_ns) != (file.size_bytes, file.mtime_ns):
            seen = self.waiting[file.path] = Watched(file.size_bytes, file.mtime_ns, now_s)
        return now_s - seen.since_s

    def _take_in(self, orders: list[Order]) -> bool:
        """Take files in for a while, and offer what settles; False when time was too short for all."""
        end_s = self.steady_s() + max(TAKING_S, min(self.listing_s, LONGEST_REST_S))
        next_offer_s = self.steady_s() + OFFER_S
        taken = 0
        for order, booked in self.intake.take_in_all(
            itertools.takewhile(lambda _: self.steady_s() <= end_s, orders), self.clock
        ):
            taken += 1
            self._note(order.file, booked)
            if self.steady_s() >= next_offer_s:
                self._outlast("sweep", self.offer, is_proof=False)
                next_offer_s = self.steady_s() + OFFER_S
        return taken == len(orders)

    def _note(self, file: Incoming, booked: Registration) -> None:
        """Remember a booked file, and take it out of the inbox where that is asked."""
        if booked.state is FileState.WAITING:
            return
        self.waiting.pop(file.path, None)
        log.info("file_booked", extra={"state": str(booked.state), "study_uid": booked.study_uid})
        if booked.state is FileState.VANISHED:  # when it comes back, as it was, it must be taken
            return
        is_ours = self.intake.settings.inbox_mode is InboxMode.MOVE and booked.is_in_store
        if not (is_ours and remove_if_unchanged(file)) and not has_changed(file):
            self.booked[self._spelled(file.path)] = (file.size_bytes, file.mtime_ns)


def booked_files(database: Database, inbox: str, identifiers: IdentifierPolicy) -> dict[str, tuple[int, int]]:
    """Size and mtime of the files below `inbox` as they were last booked, by their path as the ledger spells it."""
    below = identifiers.path(f"{inbox}{os.sep}")
    statement = text(
        "SELECT path, size_bytes, mtime_ns FROM arrival WHERE state NOT IN ('waiting', 'vanished') ORDER BY id"
    )
    with reading(database) as connection:
        return {path: (size, mtime) for path, size, mtime in connection.execute(statement) if path.startswith(below)}


def sweep(
    database: Database,
    settings: Settings,
    enqueue: Callable[[Sequence[Offer]], None],
    backlog: Callable[[], Backlog],
    now: datetime,
) -> None:
    """Heal lapsed claims, enqueue settled studies, offer lost ones again, and move those whose time has come."""
    claims.heal(database, settings, now)
    claims.advance(database, now)
    enqueue(outbox.offer(database, now))
    enqueue(outbox.reoffer(database, settings, now, backlog()))


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
