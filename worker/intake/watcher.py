"""Watch a folder: settled files go to the ledger, settled studies to the queue. Events only start a scan early.

It also sweeps: expired leases, lost messages, and studies whose position in the worklist changes with time.
"""

import itertools
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path

from schema.setting_values import InboxMode
from schema.vocabulary import FileState, Priority, Process
from worker.errors import BadSetting, Interrupted, ShareLost, StorageUnavailable
from worker.intake.folder_scan import FULL_SCAN_S, Inbox, Listing, has_changed, is_hidden, remove_if_unchanged
from worker.intake.held_file import Removal
from worker.intake.inbox_division import Division
from worker.intake.ingest import Intake, TakenIn
from worker.intake.outage_log import OutageLog
from worker.intake.reader import IntakeRequest
from worker.intake.sweep import sweep
from worker.intake.write_lease import is_open_for_writing
from worker.ledger import pruning
from worker.ledger.intake import files
from worker.ledger.intake.arrivals import Incoming
from worker.ledger.operations.signs_of_life import Signs
from worker.ledger.screening import outbox
from worker.ledger.screening.outbox import Backlog, Offer
from worker.runtime.error_place import place_of
from worker.runtime.file_events import woken_by_events

log = logging.getLogger(__name__)

#: Longest pause between two listings of an inbox, however long a listing takes.
LONGEST_PAUSE_S = 60.0

#: Files are taken in for this time between two listings, or for as long as a listing takes, up to LONGEST_PAUSE_S. So a
#: STAT study behind thousands of files does not wait longer.
TAKE_IN_S = 10.0

#: Longest time until a settled study is enqueued, also while the watcher does other work.
OFFER_S = 0.5


@dataclass
class Watched:
    """State of a path between two scans."""

    size_bytes: int
    mtime_ns: int
    since_s: float  #: unchanged since, on the steady clock
    open_since_s: float | None = None  #: a process has had it open for writing since then
    closed_since_s: float = -math.inf  #: no process has had it open for writing since then
    again_s: float = -math.inf  #: taking it in failed: unless it changes, it is not tried again before then


@dataclass
class Watcher:
    """Watches one inbox. `enqueue` publishes offers; `clock` gives aware moments, `steady_s` seconds without jumps.

    `lease_clock` is the same for the watchers of all machines; None: `clock`.
    """

    intake: Intake
    folder: Path
    enqueue: Callable[[Sequence[Offer]], None]
    backlog: Callable[[], Backlog]
    clock: Callable[[], datetime]
    steady_s: Callable[[], float] = time.monotonic
    lease_clock: Callable[[], datetime] | None = None
    waiting: dict[str, Watched] = field(default_factory=dict)
    booked: dict[str, tuple[int, int]] = field(default_factory=dict)  #: files left in the inbox: size and mtime
    listing_s: float = 0.0  #: duration of the last listing
    outages: OutageLog = field(init=False)
    division: Division = field(init=False)
    inbox: Inbox = field(init=False)
    signs: Signs = field(init=False)
    can_take_in: bool = field(default=True, init=False)  #: by the last scan; False in an outage of inbox or store

    def __post_init__(self) -> None:
        """Raises BadSetting when our own files are in the inbox: they would be taken in and removed."""
        settings = self.intake.settings
        for name, ours in (("SCREENING_HOME", settings.home), ("SCREENING_STORE", settings.store_folder)):
            if ours is not None and ours.is_relative_to(self.folder) and not is_hidden(ours.relative_to(self.folder)):
                raise BadSetting(f"{name} lies in the inbox, from which files are removed: choose a folder elsewhere")
        self.outages = OutageLog(log, self.steady_s)
        database, clock = self.intake.database, self.lease_clock or self.clock
        self.division = Division.of(database, self.folder, settings, clock, self.steady_s, self.prove_can_take_in)
        self.inbox = Inbox(self.folder, self._is_done, settings.home, self.division.is_ours, steady_s=self.steady_s)
        self.intake = replace(self.intake, guard=self.division.guard, prove_gone=self.inbox.prove_gone)
        self.signs = Signs(self.intake.database, Process.WATCHER, self.clock, self.steady_s)

    def run(self, stop: threading.Event) -> None:
        """Scan and sweep until `stop`; outages of store, database and broker are logged, and it goes on."""
        with woken_by_events(self.folder) as wake, self.division.kept():
            while not stop.is_set():
                self._give_sign()
                self.outages.attempt("make_room", self.make_room)
                is_through = self.outages.attempt("scan", self.scan)
                self.outages.attempt("sweep", self.sweep)  # a full disk stops the scan and not the sweep
                if is_through is not False:
                    self._pause(stop, wake)
                    wake.clear()

    def _pause(self, stop: threading.Event, wake: threading.Event) -> None:
        """Wait for the next scan; studies that settle meanwhile are offered at once."""
        earliest_s = self.steady_s() + min(self.listing_s, LONGEST_PAUSE_S)  # the pause is as long as the listing
        latest_s = earliest_s + self.intake.settings.scan_interval_s
        while (now_s := self.steady_s()) < latest_s and not (wake.is_set() and now_s >= earliest_s):
            if stop.wait(min(OFFER_S, latest_s - now_s)):
                return
            self.outages.attempt("sweep", self.offer, is_proof=False)

    def make_room(self) -> None:
        """Prune the studies that were read the longest ago when the store nears its quota."""
        intake = self.intake
        pruned = pruning.keep_quota(intake.settings, intake.database, intake.store, intake.capacity, self.clock())
        if pruned is not None:
            log.info("room_made", extra=asdict(pruned))

    def scan(self) -> bool:
        """List the inbox once: record unsettled and vanished files, take in settled ones, STAT first.

        Where several watchers share the inbox, only files of this watcher's folders are taken in, and a watcher that
        cannot store files or list the inbox leaves its folders to the others. False when more files have settled than
        could be taken in.
        """
        try:
            self._follow_division()
            is_through = self._scan() if self.division.held else True
            self.can_take_in = True
            return is_through
        except ShareLost:  # this process was stopped for long: what it had read is not booked
            log.warning("share_lost")
            self.division.forget()
            return False
        except StorageUnavailable:
            self.can_take_in = False
            self.division.leave_if_unable()
            raise

    def _give_sign(self) -> None:
        """Say that the watcher lives, unless it takes nothing in: the list must not say that all is well."""
        if self.can_take_in:
            self.signs.give()

    def prove_can_take_in(self) -> None:
        """Raise StorageUnavailable when the inbox cannot be listed, or nothing can be stored."""
        self.inbox.prove_listed()
        self.intake.prove_can_take_in(self.clock())

    def _follow_division(self) -> None:
        """Forget the files of folders that went to other watchers; read what was booked in folders that came."""
        gained = self.division.follow()
        if gained is None:
            return
        if gained and not self._is_moving:
            try:
                self.booked = files.booked_below(self.intake.database, self.division.below)
            except Interrupted:
                self.division.forget()
                raise
        self.waiting = {path: seen for path, seen in self.waiting.items() if self.division.has(self._spelled(path))}
        self.booked = {path: size for path, size in self.booked.items() if self.division.has(path)}
        self.inbox.check_all()

    def _scan(self) -> bool:
        now, now_s = self.clock(), self.steady_s()
        listing = self.inbox.scan()
        self.division.note_progress()
        self.listing_s = self.steady_s() - now_s
        settings = self.intake.settings
        settled, unsettled = list[IntakeRequest](), list[Incoming]()
        for file in listing.files:
            if self.booked.get(self._spelled(file.path)) == (file.size_bytes, file.mtime_ns):
                continue
            quiet_s = self._quiet_s(file, now_s)
            if self.waiting[file.path].again_s > now_s:
                continue
            needed_s = settings.file_quiet_s if file.size_bytes else settings.truncated_after_s
            if quiet_s < max(needed_s, settings.file_quiet_s) or self._has_writer(file, now_s):
                unsettled.append(file)
            else:
                closed_s = now_s - self.waiting[file.path].closed_since_s
                is_final = min(quiet_s, closed_s) >= settings.truncated_after_s
                settled.append(IntakeRequest(file, self.folder, is_final, is_settled=False, is_ours=self._is_moving))
        new = [self.intake.identifiers.file(f) for f in unsettled if self.waiting[f.path].since_s == now_s]
        files.wait(self.intake.database, new, now, self.intake.guard)
        if listing.is_changed:
            self._forget(listing)
        return self._take_in(sorted(settled, key=lambda request: request.file.priority is not Priority.STAT))

    def _forget(self, listing: Listing) -> None:
        """Record waiting files that are no longer there as vanished."""
        unlisted = tuple(f"{folder}{os.sep}" for folder in listing.unlisted)
        unlisted_spelled = tuple(map(self._spelled, unlisted))
        there = {self._spelled(path) for path in listing.paths}  # an earlier process may have left waiting rows

        def may_be_there(path: str) -> bool:
            return path in there or path.startswith(unlisted_spelled) or not self.division.has(path)

        files.record_vanished(self.intake.database, may_be_there, self.division.below, self.intake.guard)
        for path in self.waiting.keys() - set(listing.paths):
            if not path.startswith(unlisted):
                del self.waiting[path]
        for path in [path for path in self.booked if not may_be_there(path)]:
            del self.booked[path]

    def offer(self) -> None:
        """Enqueue the settled studies."""
        self._give_sign()
        self.enqueue(outbox.offer(self.intake.database, self.clock()))

    def sweep(self) -> None:
        """Run `sweep` for this installation."""
        sweep(self.intake.database, self.intake.settings, self.enqueue, self.backlog, self.clock())

    def _is_done(self, path: str) -> bool:
        return path not in self.waiting and self._spelled(path) in self.booked

    def _spelled(self, path: str) -> str:
        return self.intake.identifiers.path(path)

    def _quiet_s(self, file: Incoming, now_s: float) -> float:
        """Seconds since the file was last seen to change."""
        seen = self.waiting.get(file.path)
        if seen is None or (seen.size_bytes, seen.mtime_ns) != (file.size_bytes, file.mtime_ns):
            seen = self.waiting[file.path] = Watched(file.size_bytes, file.mtime_ns, now_s)
        return now_s - seen.since_s

    def _has_writer(self, file: Incoming, now_s: float) -> bool:
        """Whether a process has the file open for writing; a file that is open for long is logged once."""
        seen, longest_s = self.waiting[file.path], self.intake.settings.truncated_after_s
        if not is_open_for_writing(file.path):
            seen.open_since_s = None
            return False
        if seen.open_since_s is None:
            seen.open_since_s = now_s
        was_logged = seen.closed_since_s - seen.open_since_s >= longest_s  # at an earlier scan
        open_s = now_s - seen.open_since_s
        if open_s >= longest_s and not was_logged:
            log.warning("file_held_open", extra={"held_s": open_s})
        seen.closed_since_s = now_s
        return True

    def _take_in(self, requests: list[IntakeRequest]) -> bool:
        """Take files in until the time is over, and offer settled studies; False when files are left."""
        end_s = self.steady_s() + max(TAKE_IN_S, min(self.listing_s, LONGEST_PAUSE_S))
        next_offer_s = self.steady_s() + OFFER_S
        taken = 0
        requests_in_time = itertools.takewhile(lambda _: self.steady_s() <= end_s, requests)
        for each in self.intake.take_in_all(requests_in_time, self.clock):
            taken += 1
            self._note(each)
            if self.steady_s() >= next_offer_s:
                self.outages.attempt("sweep", self.offer, is_proof=False)
                next_offer_s = self.steady_s() + OFFER_S
        return taken == len(requests)

    def _note(self, taken: TakenIn) -> None:
        """Remember a recorded file, and remove it from the inbox in mode `move`."""
        self.division.note_progress()
        file, booked = taken.request.file, taken.booked
        if taken.refused is not None:
            self.waiting[file.path].again_s = self.steady_s() + FULL_SCAN_S
            log.error("file_refused", extra={"kind": place_of(taken.refused)})
        if booked.state is FileState.WAITING:
            return
        self.waiting.pop(file.path, None)
        log.info("file_booked", extra={"state": str(booked.state), "study_uid": booked.study_uid})
        if booked.state is FileState.VANISHED:  # if it comes back unchanged, it must be taken in
            return
        if not self._is_gone(taken) and not has_changed(file, booked.as_read):
            self.booked[self._spelled(file.path)] = (file.size_bytes, file.mtime_ns)

    def _is_gone(self, taken: TakenIn) -> bool:
        """Take a recorded file out of the inbox in mode `move`; True if it is not there, or will come again."""
        if taken.held is not None:
            return taken.held.remove() is not Removal.STAYS
        is_ours = self._is_moving and taken.booked.is_in_store
        return is_ours and remove_if_unchanged(taken.request.file, taken.booked.as_read)

    @property
    def _is_moving(self) -> bool:
        """Whether files leave the inbox once they are booked."""
        return self.intake.settings.inbox_mode is InboxMode.MOVE
