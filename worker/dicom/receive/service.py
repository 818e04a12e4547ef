"""The process `worker receive`: opens ledger, store and decoder, and closes them in the right order."""

import logging
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager

from schema.vocabulary import Process
from worker.decoding.decoder import Decoder
from worker.dicom.library_log import quiet_library
from worker.dicom.receive.receiver import Receiver
from worker.dicom.receive.spool import Spool
from worker.dicom.receive.tallies import metrics_served
from worker.imaging.lenient_pydicom import lenient_pydicom
from worker.intake.ingest import Intake
from worker.ledger.connect import open_database
from worker.ledger.operations.signs_of_life import Signs
from worker.runtime.error_place import place_of
from worker.settings import Settings
from worker.store import open_store
from worker.store.capacity import capacity_of

log = logging.getLogger(__name__)

#: How long the decoder may go on after SIGTERM; its child ends with this process in any case.
DECODER_S = 1.0


@contextmanager
def receiving(settings: Settings) -> Iterator[Receiver]:
    """A receiver that serves while the block runs.

    Raises BadSetting, Misconfigured (address not available), SchemaOutdated, Interrupted.
    """
    quiet_library()
    threading.excepthook = log_thread_failed
    with ExitStack() as stack:
        stack.enter_context(lenient_pydicom())  # its warnings quote what a peer sent
        database = stack.enter_context(closing(open_database(settings)))
        decoder = Decoder.of(settings)
        stack.callback(decoder.close, DECODER_S)  # a decode under way must not hold the end of the process
        intake = Intake(settings, database, open_store(settings), decoder, capacity_of(settings))
        intake.capacity.waits_for_measure = False  # the size of a large store is measured beside the answers
        spool = stack.enter_context(Spool(settings).opened())
        receiver = Receiver(settings, intake, spool)
        stack.enter_context(metrics_served(settings, receiver.tallies))
        serving = stack.enter_context(receiver.serving())
        stack.enter_context(Signs(database, Process.RECEIVER).given(lambda: serving.is_listening))
        yield serving


def log_thread_failed(failed: threading.ExceptHookArgs) -> None:
    """Log an error that ended a thread by its place: its words may quote what a peer sent."""
    if failed.exc_value is not None:
        log.error("thread_failed", extra={"kind": place_of(failed.exc_value)})
