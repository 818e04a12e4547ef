"""When several watchers share an inbox: from which of its folders this watcher takes files.

A file belongs to the share of its folder (a hash of the folder's path), so the files of one folder stay together. The
first level of the path would divide badly: all of `stat/`, or of a year, would be one share. Files directly in the
inbox are one share, so such an inbox is watched by one watcher, and the others stand by. Shares go to another watcher
between two scans; the files of their folders then wait for the quiet period again.
"""

import hashlib
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import lru_cache
from pathlib import Path

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from schema.database import Database
from worker.errors import ScreeningError, StorageUnavailable
from worker.ledger.identifiers import IdentifierPolicy
from worker.ledger.intake import inbox_shares
from worker.ledger.intake.arrivals import PATH_KEPT
from worker.ledger.intake.inbox_shares import SHARES, WatcherLease
from worker.ledger.operations.signs_of_life import LONGEST_HOST
from worker.runtime.error_place import place_of
from worker.settings import Settings

log = logging.getLogger(__name__)

ALL = frozenset(range(SHARES))

#: How long the end of a watcher waits until its shares are given back: a database that is silent must not hold it.
END_S = 10.0

#: A watcher that has listed nothing and taken no file in for so long lets its lease lapse, so that others take over.
HUNG_S = 900.0


@lru_cache(maxsize=4096)  # a folder may hold a hundred thousand files, which come one after another
def share_of(folder: str) -> int:
    """The number of a folder's share, from its path below the inbox as the ledger spells it."""
    return int.from_bytes(hashlib.sha256(folder.encode()).digest()[:4], "big") % SHARES


@dataclass
class Division:
    """The shares that one watcher holds. `lease` is None where there can be no other watcher: it holds all shares."""

    database: Database
    below: str  #: the inbox as the ledger spells it, with a slash
    spelled: Callable[[str], str]
    clock: Callable[[], datetime]
    steady_s: Callable[[], float]
    heartbeat_s: float
    lease: WatcherLease | None
    prove_can_take_in: Callable[[], None] = lambda: None  #: raises StorageUnavailable where no file can be taken in
    held: frozenset[int] = frozenset()
    _next_s: float = field(default=-1e9, init=False)
    _worked_s: float = field(default=-1e9, init=False)
    _fault: StorageUnavailable | None = field(default=None, init=False)  #: what the last proof found
    _next_proof_s: float = field(default=-1e9, init=False)

    @classmethod
    def of(
        cls, database: Database, inbox: Path, settings: Settings, clock: Callable[[], datetime],
        steady_s: Callable[[], float] = time.monotonic, prove_can_take_in: Callable[[], None] = lambda: None,
    ) -> "Division":  # fmt: skip
        """The division of an inbox. With a private broker there is one watcher only, by the state folder's lock."""
        spelled = IdentifierPolicy.of(settings).path
        below = spelled(f"{inbox}{os.sep}")
        lease = None
        if not settings.is_embedded:
            lease = WatcherLease(
                below.rstrip(os.sep), socket.gethostname()[:LONGEST_HOST], os.getpid(), settings.lease_s
            )
        return cls(database, below, spelled, clock, steady_s, settings.heartbeat_s, lease, prove_can_take_in)

    def follow(self) -> frozenset[int] | None:
        """Take or give shares if that is due, once a heartbeat. Returns the gained ones, None if nothing changed.

        A watcher joins the others once it can take files in. Call it between two scans. Raises Interrupted.
        """
        self.note_progress()
        if self.lease is None:
            gained, self.held = ALL - self.held, ALL
            return gained or None
        if self.steady_s() < self._next_s:
            return None
        if not self.lease.holder:
            self._prove_can_join()
        before, holder = self.held, self.lease.holder
        self.lease, self.held = inbox_shares.follow(self.database, self.lease, self.clock())
        self._next_s = self.steady_s() + self.heartbeat_s
        if self.lease.holder != holder:  # it joined anew: meanwhile others may have held its shares
            before = frozenset()
        elif self.held == before:
            return None
        log.info("inbox_divided", extra={"shares": len(self.held), "of": SHARES})
        return self.held - before

    def note_progress(self) -> None:
        """Call it at each scan and each file: a watcher that hangs keeps its shares for HUNG_S."""
        self._worked_s = self.steady_s()

    def forget(self) -> None:
        """Hold no shares until the next call of `follow`, which is due at once."""
        self.held, self._next_s = frozenset(), -1e9

    def leave_if_unable(self) -> None:
        """After an outage: leave all shares to other watchers if no file can be taken in here; `follow` joins again.

        If only a single file is at fault, the shares are kept: other watchers would fail at it too.
        """
        if self.lease is None or not self.lease.holder:
            return
        try:
            self._prove_can_take_in()
        except StorageUnavailable:
            log.warning("inbox_left_to_others")
            lease, self.lease = self.lease, replace(self.lease, holder="")
            self.forget()
            self._write(inbox_shares.leave, lease)

    def _prove_can_join(self) -> None:
        """Raise StorageUnavailable while no file can be taken in. The test writes to the store: once a heartbeat."""
        if self._fault is not None and self.steady_s() < self._next_proof_s:
            raise self._fault.with_traceback(None)
        self._prove_can_take_in()

    def _prove_can_take_in(self) -> None:
        self._fault, self._next_proof_s = None, self.steady_s() + self.heartbeat_s
        try:
            self.prove_can_take_in()
        except StorageUnavailable as error:
            self._fault = error
            raise

    def guard(self, connection: Connection) -> None:
        """Raise ShareLost, in a transaction that books, when others have taken over."""
        if self.lease is not None:
            inbox_shares.require(connection, self.lease)

    def is_ours(self, folder: str) -> bool:
        """Whether files directly in this folder, by its path in the file system, are taken in here."""
        return self.held == ALL or self.has(self.spelled(f"{folder}{os.sep}"))

    def has(self, path: str) -> bool:
        """As `is_ours`, for a file's path as the ledger stores it: of a long one only the beginning is unchanged."""
        folder = path[:PATH_KEPT].removeprefix(self.below).rpartition(os.sep)[0]
        return self.held == ALL or share_of(folder) in self.held

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Keep the lease while the block runs, however long a listing or a file takes; then give all shares back."""
        stop = threading.Event()
        thread = threading.Thread(target=self._keep_until, args=(stop,), name="inbox lease", daemon=True)
        if self.lease is not None:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            if self.lease is not None:
                thread.join(END_S)

    def _keep_until(self, stop: threading.Event) -> None:
        while not stop.wait(self.heartbeat_s):
            if self.steady_s() - self._worked_s < HUNG_S:
                self._write(inbox_shares.prolong, self.lease)
        self._write(inbox_shares.leave, self.lease)

    def _write(self, change: Callable[[Database, WatcherLease, datetime], None], lease: WatcherLease | None) -> None:
        """Prolong or leave. If the database is away, that is logged, and the lease lapses by itself."""
        if lease is not None and lease.holder:
            try:
                change(self.database, lease, self.clock())
            except (SQLAlchemyError, ScreeningError) as error:
                log.warning("inbox_lease_not_written", extra={"kind": place_of(error)})
