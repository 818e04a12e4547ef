"""Takes one received object in and chooses the status that its sender gets. Knows objects and no association."""

import logging
import queue
import threading
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from datetime import datetime

from schema.vocabulary import Priority
from worker.dicom.identity import is_own_result
from worker.dicom.receive.spool import SpooledObject
from worker.dicom.receive.statuses import Status
from worker.errors import Interrupted, Rejected
from worker.imaging.instance import Instance
from worker.intake.ingest import Intake
from worker.intake.reader import ReadFile
from worker.intake.received_object import ReceivedObject, held_objects, read_header, take_in
from worker.ledger.schema_revision import revision
from worker.runtime.boundary import result_or_error
from worker.runtime.error_place import place_of

log = logging.getLogger(__name__)

#: The answer to `may another object come?` is used for this time.
REFUSAL_S = 1.0

#: Time between two tries to book an object whose pixels were to be compared, while store or database is away.
RETRY_S = 5.0


@dataclass(frozen=True)
class Command:
    """What a C-STORE request says about its object, and who sent it."""

    calling: str
    sop_class_uid: str
    sop_instance_uid: str
    priority: Priority
    is_deflated: bool = False


@dataclass
class Reception:
    """Takes objects in through `Intake`. Thread-safe. `start` begins a thread that compares pixels."""

    intake: Intake
    clock: Callable[[], datetime]
    steady_s: Callable[[], float]
    own_result_came: Callable[[str], None] = lambda _: None  #: called with the calling title
    to_compare: "queue.Queue[ReadFile]" = field(default_factory=queue.Queue)
    _refusal: tuple[float, Status | None] = (-1e9, None)
    _stop: threading.Event = field(default_factory=threading.Event)
    _inflating: threading.Lock = field(default_factory=threading.Lock)

    def refusal(self) -> Status | None:
        """The status for an object whose data are not read yet; None: it may come."""
        asked_s, found = self._refusal
        if self.steady_s() - asked_s >= REFUSAL_S:
            found = self._ask()
            self._refusal = self.steady_s(), found
        return found

    def _ask(self) -> Status | None:
        intake = self.intake
        try:
            intake.capacity.require(intake.settings, intake.store, self.clock())
            revision(intake.database)
        except Interrupted as error:
            log.error("objects_refused", extra={"code": error.code, "reason": error.message})
            return Status.OUT_OF_RESOURCES
        return None

    def receive(self, command: Command, spooled: SpooledObject) -> Status:
        """The status of a spooled object; 0x0000 only after its bytes are in the store and its arrival is committed."""
        if spooled.size_bytes == 0:
            return Status.CANNOT_UNDERSTAND
        try:
            spooled.finish()
            header = self._header(command, spooled)
            status = _mismatch(command, header)
            if status is not None:
                log.warning("object_does_not_match", extra={"peer": command.calling})
                return status
            if isinstance(header, Instance) and is_own_result(header):
                log.info("own_result_received", extra={"peer": command.calling})
                self.own_result_came(command.calling)
                return Status.SUCCESS
            return self._take_in(command, spooled, header)
        except Interrupted as error:
            log.error("object_refused", extra={"code": error.code, "reason": error.message})
            self._refusal = (-1e9, None)
            return Status.OUT_OF_RESOURCES

    def _header(self, command: Command, spooled: SpooledObject) -> Instance | Rejected:
        """A deflated data set is inflated in memory, up to the limit for pixels: one at a time."""
        try:
            with self._inflating if command.is_deflated else nullcontext():
                return read_header(spooled.path, self.intake.limits)
        except Rejected as error:
            return error

    def _take_in(self, command: Command, spooled: SpooledObject, header: Instance | Rejected) -> Status:
        received = ReceivedObject(
            spooled.path, f"dicom:{command.calling}/{command.sop_instance_uid}", spooled.sums.digest, spooled.sums.crc,
            spooled.size_bytes, command.priority,
        )  # fmt: skip
        booked, to_compare = take_in(self.intake, received, header, self.clock())
        log.info("object_booked", extra={"state": str(booked.state), "study_uid": booked.study_uid})
        if to_compare is not None:
            self.to_compare.put(to_compare)
        return Status.SUCCESS

    def start(self) -> threading.Thread:
        """Book in a thread what waits for a comparison, also what an earlier process left; `stop` ends it."""
        thread = threading.Thread(target=self._compare, name="comparison", daemon=True)
        thread.start()
        return thread

    def stop(self) -> None:
        """End the thread; what is left is booked after the next start."""
        self._stop.set()

    def _compare(self) -> None:
        left: list[ReadFile] | None = None
        while not self._stop.is_set():
            try:
                if left is None:
                    left = held_objects(self.intake)
                while left:
                    self._book(left[0])
                    del left[0]
            except Interrupted as error:
                log.error("comparison_waits", extra={"code": error.code, "reason": error.message})
                self._stop.wait(RETRY_S)
                continue
            with suppress(queue.Empty):
                left.append(self.to_compare.get(timeout=0.2))

    def _book(self, read: ReadFile) -> None:
        """Book it; after an unexpected error it waits for the next start, and no other waits with it."""
        booked = result_or_error(lambda: self.intake.book(read, self.clock()))
        if isinstance(booked, Interrupted):
            raise booked
        if isinstance(booked, Exception):
            log.error("comparison_failed", extra={"kind": place_of(booked)})
            return
        log.info("object_booked", extra={"state": str(booked.state), "study_uid": booked.study_uid})


def _mismatch(command: Command, header: Instance | Rejected) -> Status | None:
    """0xA900 when the data set names another SOP Class or Instance than the command; None when it may be kept."""
    found = header.instance if isinstance(header, Rejected) else header
    if not isinstance(found, Instance):
        return None
    named = found.sop_class_uid, found.sop_instance_uid
    return None if named == (command.sop_class_uid, command.sop_instance_uid) else Status.DOES_NOT_MATCH
