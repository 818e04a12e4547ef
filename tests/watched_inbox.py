"""An inbox with a watcher whose clock the test moves."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs

from schema.vocabulary import Priority
from tests.ledger import Ledger
from tests.phantoms import dicom_file, picture
from worker.errors import BrokerUnavailable
from worker.intake.ingest import Intake
from worker.intake.sweep import sweep
from worker.intake.watcher import Watcher
from worker.ledger.screening.outbox import Backlog, Offer
from worker.monitoring.reconciliation import reconcile

CHEST = dicom_file(picture())


def another(number: int) -> bytes:
    """A radiograph of a study of its own."""
    uid = f"1.2.3.{number}"
    return dicom_file(picture(), StudyInstanceUID=uid, SeriesInstanceUID=f"{uid}.1", SOPInstanceUID=f"{uid}.1.1")


class WatchedInbox:
    """An inbox, its watcher, and the messages that were published."""

    def __init__(self, desk: Ledger, inbox: Path) -> None:
        self.desk, self.inbox = desk, inbox
        self.published: list[str] = []
        self.is_broker_away, self.refused = False, 0
        inbox.mkdir(exist_ok=True)
        self.start()

    def start(self, **changes: Any) -> None:
        """A fresh watcher process, with other settings if asked."""
        self.desk.settings = attrs.evolve(self.desk.settings, **changes)
        intake = Intake(self.desk.settings, self.desk.database, self.desk.store)
        clock = self.desk.clock
        self.watcher = Watcher(intake, self.inbox, self.publish, self.backlog, clock, lambda: clock().timestamp())

    def publish(self, offers: Sequence[Offer]) -> None:
        if self.is_broker_away and offers:
            self.refused += 1
            raise BrokerUnavailable("cannot publish")
        self.published += [offer.study_uid for offer in offers]

    def backlog(self) -> Backlog:
        """The published messages, all waiting, of unknown age."""
        if self.is_broker_away:
            self.refused += 1
            raise BrokerUnavailable("cannot be asked")
        return Backlog(dict.fromkeys((Priority.STAT, Priority.ROUTINE)) if self.published else {})

    def drop(self, name: str, content: bytes = CHEST) -> Path:
        path = self.inbox / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def scan(self, after_s: float = 0.0) -> dict[str, int]:
        """Let time pass, scan, and count the files by state."""
        self.desk.clock.forward(after_s)
        self.watcher.scan()
        account = reconcile(self.desk.database, self.desk.store)
        assert account.holds, account
        return account.files

    def sweep(self, after_s: float = 0.0) -> list[str]:
        """Let time pass, sweep, and return what is published by now."""
        self.desk.clock.forward(after_s)
        sweep(self.desk.database, self.desk.settings, self.publish, self.backlog, self.desk.clock())
        return self.published

    def left(self) -> list[str]:
        return sorted(str(p.relative_to(self.inbox)) for p in self.inbox.rglob("*") if not p.is_dir())
