"""A batch on the nightly queue: an archive read in place, or stored studies screened by the active model.

It takes new work only while its window is open and few studies wait, so it ends soon after the window, and the other
queues are not delayed. Its results are in the ledger, so the same command continues.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import attrs

from schema.setting_values import InboxMode
from schema.vocabulary import FileState, IdentifierMode, Priority, StudyState
from worker.errors import BrokerUnavailable, Interrupted, Misconfigured
from worker.intake.folder_scan import files_in
from worker.intake.sweep import sweep
from worker.ledger import decisions
from worker.ledger.clocks import now
from worker.ledger.intake import files
from worker.ledger.intake.arrivals import Incoming
from worker.ledger.operations import promotions
from worker.ledger.screening import outbox
from worker.ledger.screening.outbox import Backlog, Offer
from worker.registry.registry import Registry
from worker.schedule.window import ALL_DAY, Window
from worker.service.service import BATCH_QUIET_S, SWEEP_S, RunningService
from worker.worklist import underway

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Largest number of studies under way: a few seconds of work for ten workers, also at the window's end.
UNDERWAY_MAX = 200

#: Time for a stopped run to finish the studies under way.
STOP_S = 60.0

#: Time between two tries while the database or a disk is not available.
OUTAGE_S = 5.0

#: Time between two checks of the clock while the window is closed.
CLOCK_S = 30.0


@dataclass(frozen=True)
class Source:
    """Pieces of work, and the function that takes one; `take` returns its study, if there is one."""

    pieces: Sequence[Any]
    take: Callable[[Any], "Taken"]
    unlisted: tuple[str, ...] = ()  #: folders that could not be listed


@dataclass(frozen=True)
class Taken:
    """The outcome of one piece."""

    state: FileState | None = None  #: of a file
    study_uid: str | None = None


@dataclass(frozen=True)
class BatchOutcome:
    """The outcome of one run of a batch."""

    began_at: datetime
    ended_at: datetime
    files: dict[FileState, int]
    study_uids: list[str]
    left: int  #: pieces for the next night
    unlisted: tuple[str, ...]


def archive(service: RunningService, folder: Path) -> Source:
    """The files below a folder that were not taken in with their present size and time. They are read in place.

    If the database stores no paths, they are copied into the store, because they could not be found again.
    """
    mode = InboxMode.LEAVE if service.settings.identifiers is IdentifierMode.PLAIN else InboxMode.COPY
    settings = attrs.evolve(service.settings, inbox_mode=mode, study_quiet_s=BATCH_QUIET_S)
    intake = replace(service.intake, settings=settings)
    unlisted: list[str] = []
    done = files.booked_below(intake.database, intake.identifiers.path(f"{folder}{os.sep}"))
    found = [
        replace(file, priority=Priority.NIGHTLY)
        for file in files_in(folder, lambda error: unlisted.append(str(error.filename)))
        if done.get(intake.identifiers.path(file.path)) != (file.size_bytes, file.mtime_ns)
    ]

    def take(file: Incoming) -> Taken:
        booked = intake.take_in(file, now(), is_final=True, is_settled=False, inbox=folder)
        return Taken(booked.state, booked.study_uid)

    return Source(found, take, tuple(unlisted))


def stored(service: RunningService, since: datetime, verdict: str | None) -> Source:
    """The studies with a verdict of another model than the active one."""
    database = service.intake.database
    Registry(service.settings, database, service.intake.store).install(now())
    active = promotions.registry_state(database).active
    if active is None:
        raise Misconfigured("no model is active: see `worker model list`")

    def take(study_uid: str) -> Taken:
        is_asked = decisions.rescreen(database, study_uid, service.settings, now())
        return Taken(study_uid=study_uid if is_asked else None)

    return Source(underway.judged_by_others(database, active, since, verdict), take)


@dataclass
class Batch:
    """One run. `stop` ends it like the window's end: no new work is taken, studies under way are finished."""

    service: RunningService
    source: Source
    enqueue: Callable[[Sequence[Offer]], None]
    backlog: Callable[[], Backlog]
    stop: threading.Event
    window: Window = ALL_DAY
    per_s: float | None = None  #: largest number of pieces taken per second
    progress: Callable[[str, int, int], None] = lambda *_: None
    clock: Callable[[], datetime] = now
    waiting: Callable[[datetime, int], None] = lambda *_: None  #: gets the opening of the window, and the pieces
    _next_sweep: float = 0.0

    def run(self) -> BatchOutcome:
        """Wait for the window, take pieces while it is open, and wait until their studies have ended."""
        self._wait_for_window()
        began_at, total = self.clock(), len(self.source.pieces)
        files: dict[FileState, int] = {}
        own: dict[str, None] = {}
        done = 0
        for piece in self.source.pieces:
            self.progress("taking in", done, total)
            if not self._has_room():
                break
            taken = self._take(piece)
            if taken is None:
                break
            done += 1
            if taken.state is not None:
                files[taken.state] = files.get(taken.state, 0) + 1
            if taken.study_uid is not None:
                own[taken.study_uid] = None
            if self.per_s is not None:
                self.stop.wait(1 / self.per_s)
        self._finish(list(own))
        return BatchOutcome(began_at, self.clock(), files, list(own), total - done, self.source.unlisted)

    def _wait_for_window(self) -> None:
        """Wait until the window opens or the run is stopped; `waiting` is called once."""
        wait_s = self.window.opens_in_s(self._local())
        if wait_s > 0:
            self.waiting(self._local() + timedelta(seconds=wait_s), len(self.source.pieces))
        while wait_s > 0 and not self.stop.is_set():
            self.stop.wait(min(wait_s, CLOCK_S))
            wait_s = self.window.opens_in_s(self._local())

    def _local(self) -> datetime:
        return self.clock().astimezone()

    def _has_room(self) -> bool:
        """Wait until few studies are under way; False when the window is closed or the run is stopped."""
        while self.window.is_open(self._local()) and not self.stop.is_set():
            self.service.check()
            if self._unless_away(self._has_few_underway):
                return True
            self.stop.wait(SWEEP_S)
        return False

    def _has_few_underway(self) -> bool:
        self._sweep()
        return underway.nightly_underway(self.service.intake.database) < UNDERWAY_MAX

    def _take(self, piece: Any) -> Taken | None:
        """Take a piece, and try again during an outage; None when the run is stopped or its window closes."""
        while not self.stop.is_set() and self.window.is_open(self._local()):
            taken = self._unless_away(lambda: self.source.take(piece))
            if taken is not None:
                return taken
            self.stop.wait(OUTAGE_S)
        return None

    def _finish(self, study_uids: list[str]) -> None:
        """Wait until the studies have ended, also through an outage; at most `STOP_S` after the run was stopped."""
        if not study_uids:
            return
        self._unless_away(lambda: outbox.settle(self.service.intake.database, study_uids, self.clock()))
        stopped_at: float | None = None
        while True:
            self.service.check()
            if self._unless_away(lambda: self._have_ended(study_uids)):
                return
            if self.stop.is_set():
                stopped_at = stopped_at or time.monotonic()
                if time.monotonic() - stopped_at > STOP_S:
                    return
            time.sleep(SWEEP_S)

    def _have_ended(self, study_uids: list[str]) -> bool:
        self._sweep()
        states = underway.states(self.service.intake.database, study_uids)
        ended = states.get(StudyState.SCREENED, 0) + states.get(StudyState.FAILED, 0)
        self.progress("screening", ended, len(study_uids))
        return ended == len(study_uids)

    def _unless_away(self, work: Callable[[], T]) -> T | None:
        """The result of the work; None in an outage, which is logged."""
        try:
            return work()
        except Interrupted as error:
            log.error("outage", extra={"code": error.code, "reason": error.message})
            return None

    def _sweep(self) -> None:
        """Sweep, if SWEEP_S have passed since the last time."""
        if time.monotonic() < self._next_sweep:
            return
        self._next_sweep = time.monotonic() + SWEEP_S
        try:
            sweep(self.service.intake.database, self.service.settings, self.enqueue, self.backlog, self.clock())
        except BrokerUnavailable as error:  # offered again by the next sweep
            log.error("outage", extra={"code": error.code, "reason": error.message})
