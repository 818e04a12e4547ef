"""The process `worker send`: takes what is due, makes it, sends it, and records each answer.

What was not taken is due again later: `worker.ledger.dispatch.retry_schedule`.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime

from pydicom.dataset import Dataset

from schema.database import Database
from schema.setting_values import Silent
from schema.vocabulary import DispatchState
from worker.dicom.library_log import quiet_library
from worker.dicom.send.composer import Composer
from worker.dicom.send.destination import Answer, Destination, destination_of
from worker.errors import Interrupted, Rejected
from worker.imaging.lenient_pydicom import lenient_pydicom
from worker.ledger.clocks import now
from worker.ledger.connect import open_existing
from worker.ledger.dispatch import dispatches
from worker.ledger.dispatch.dispatches import Due
from worker.runtime.boundary import result_or_error
from worker.runtime.error_place import place_of
from worker.settings import Settings
from worker.store import open_store

log = logging.getLogger(__name__)

#: Time between two looks for objects that are due.
POLL_S = 2.0

#: How long an archive may take to answer after SIGTERM. What it has not answered stays due, and is sent again.
STOP_S = 15.0


@dataclass(frozen=True)
class Sender:
    """Sends the result objects of one installation to its destination."""

    database: Database
    composer: Composer
    destination: Destination
    name: str  #: of the destination, as rows have it
    clock: Callable[[], datetime] = now

    def run(self, stop: threading.Event) -> None:
        """Send until `stop`. Outages of store, database and outbox are logged, and it goes on."""
        ended = threading.Event()
        threading.Thread(target=self._hang_up, args=[stop, ended], name="hang_up", daemon=True).start()
        while not stop.is_set():
            try:
                is_idle = self.turn(stop) == 0
            except Interrupted as error:
                log.error("outage", extra={"work": "send", "code": error.code, "reason": error.message})
                is_idle = True
            if is_idle:
                stop.wait(POLL_S)
        ended.set()

    def _hang_up(self, stop: threading.Event, ended: threading.Event) -> None:
        stop.wait()
        if not ended.wait(STOP_S):
            log.warning("answer_not_awaited")
            self.destination.hang_up()

    def turn(self, stop: threading.Event | None = None) -> int:
        """Send what is due now, and no more after `stop`; returns how many were taken. Nothing in a silent run.

        Raises Interrupted.
        """
        if self.composer.settings.silent is Silent.ON:
            return 0
        stop = stop or threading.Event()
        taken = dispatches.take(self.database, self.name, self.clock())
        made: list[tuple[Due, Dataset]] = []
        for due in taken:
            if stop.is_set():
                break
            composed = self._make(due)
            if composed is not None:
                made.append((due, composed))
        if made and not stop.is_set():
            with lenient_pydicom(), closing(self.destination.send([each for _, each in made])) as answers:
                for (due, each), answer in zip(made, answers, strict=True):
                    self._end(due, answer, str(each.SOPClassUID))
                    if stop.is_set():
                        break
        return len(taken)

    def _make(self, due: Due) -> Dataset | None:
        """The object; None when the row has ended without one."""
        made = result_or_error(lambda: self.composer.compose(due))
        if isinstance(made, Interrupted):
            raise made
        if isinstance(made, Rejected):
            self._end(due, Answer(DispatchState.GIVEN_UP, made.message))
            return None
        if isinstance(made, Exception):  # a bug: recorded by its place alone
            log.error("result_not_made", extra={"study_uid": due.study_uid, "kind": place_of(made)})
            self._end(due, Answer(DispatchState.REFUSED, f"it cannot be made: {place_of(made)}"))
            return None
        if made is None:
            self._end(due, Answer(DispatchState.NEEDLESS, "there is nothing to send"))
        return made

    def _end(self, due: Due, answer: Answer, sop_class_uid: str | None = None) -> None:
        dispatches.end(self.database, due, answer.state, answer.words, self.clock(), sop_class_uid)
        about = {
            "study_uid": due.study_uid,
            "object": str(due.kind),
            "state": str(answer.state),
            "answer": answer.words,
        }
        log.log(
            logging.INFO if answer.state is DispatchState.SENT else logging.WARNING, "result_dispatched", extra=about
        )


@contextmanager
def sending(settings: Settings) -> Iterator[Sender]:
    """A sender with what it needs. Raises BadSetting, NoHome, SchemaOutdated, Interrupted."""
    quiet_library()
    destination = destination_of(settings)
    with closing(open_existing(settings)) as database:
        composer = Composer.of(settings, database, open_store(settings))
        yield Sender(database, composer, destination, settings.send)
