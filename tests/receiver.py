"""A receiver in this process, and peers that send to it."""

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from io import BytesIO
from typing import Any

import attrs
from pydicom import dcmread
from pydicom.dataset import Dataset
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dsutils import encode
from pynetdicom.transport import AssociationSocket

from tests.ledger import Ledger
from tests.phantoms import DX_FOR_PRESENTATION, EXPLICIT_LITTLE, dicom_file, picture
from worker.decoding.decoder import Decoder
from worker.dicom.deadline_socket import DeadlineSocket
from worker.dicom.library_log import quiet_library
from worker.dicom.receive.receiver import Receiver
from worker.dicom.receive.spool import Spool
from worker.imaging.lenient_pydicom import lenient_pydicom
from worker.intake.ingest import Intake
from worker.settings import Settings

OURS, STAT, CALLER = "CHESTSCREENING", "CHESTSTAT", "MODALITY1"

#: pynetdicom's own leaves the socket of a client open whose connection fails.
AssociationSocket._shutdown_socket = DeadlineSocket._shutdown_socket


def settings_of(desk: Ledger, **changes: Any) -> Settings:
    """Settings of a receiver on any free port that takes images from CALLER."""
    plain: dict[str, Any] = {"receive_port": 0, "receive_from": CALLER, "ae_stat": STAT, "receive_metrics_port": 0}
    return attrs.evolve(desk.settings, **plain | changes)


@contextmanager
def receiving(desk: Ledger, *, drain_s: float = 5.0, **changes: Any) -> Iterator[Receiver]:
    """A receiver with the ledger and store of a test, until the block ends."""
    quiet_library()
    settings = settings_of(desk, **changes)
    with lenient_pydicom(), closing(Decoder.of(settings)) as decoder, Spool(settings).opened() as spool:
        intake = Intake(settings, desk.database, desk.store, decoder)
        with Receiver(settings, intake, spool, desk.clock).serving(drain_s) as receiver:
            yield receiver


def radiograph(number: int = 1, syntax: str = EXPLICIT_LITTLE, **elements: Any) -> Dataset:
    """A radiograph of a study of its own, as a data set with file meta information."""
    uid = f"1.2.826.0.1.3680043.10.9.{number}"
    uids = {"StudyInstanceUID": uid, "SeriesInstanceUID": f"{uid}.1", "SOPInstanceUID": f"{uid}.1.1"}
    return dcmread(BytesIO(dicom_file(picture(), syntax, **uids | elements)))


def associate(
    receiver: Receiver, calling: str = CALLER, called: str = OURS, syntaxes: Sequence[str] = (EXPLICIT_LITTLE,),
    sop_class: str = DX_FOR_PRESENTATION, **options: Any,
) -> Association:  # fmt: skip
    """An association, established or refused."""
    entity = AE(calling)
    entity.add_requested_context(sop_class, list(syntaxes))
    entity.add_requested_context("1.2.840.10008.1.1")
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 90
    return entity.associate("127.0.0.1", receiver.port, ae_title=called, **options)


def send(receiver: Receiver, *datasets: Dataset, **options: Any) -> list[int | None]:
    """The status of each data set, sent over one association. None: no answer."""
    syntax = str(datasets[0].file_meta.TransferSyntaxUID)
    sop_class = str(datasets[0].file_meta.MediaStorageSOPClassUID)
    association = associate(receiver, syntaxes=[syntax], sop_class=sop_class, **options)
    assert association.is_established
    answers = [association.send_c_store(ds) for ds in datasets]
    association.release()
    return [answer.Status if "Status" in answer else None for answer in answers]


def store_all(
    port: int,
    datasets: Sequence[Dataset],
    answered: set[str],
    stop: threading.Event,
    called: str = OURS,
    calling: str = CALLER,
) -> None:
    """Send each object until it is answered with success, over new associations as long as it takes."""
    left = list(datasets)
    while left and not stop.is_set():
        entity = AE(calling)
        entity.add_requested_context(DX_FOR_PRESENTATION, [EXPLICIT_LITTLE])
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 10
        association = entity.associate("127.0.0.1", port, ae_title=called)
        while left and association.is_established:
            answer = association.send_c_store(left[0])
            if "Status" in answer and answer.Status == 0x0000:
                answered.add(str(left.pop(0).SOPInstanceUID))
            else:
                break
        if association.is_established:
            association.release()
        if left:
            stop.wait(0.05)


def send_bytes(
    association: Association, data: bytes, sop_instance_uid: str, sop_class_uid: str = DX_FOR_PRESENTATION
) -> int | None:
    """The status of any bytes as the data set of a command; None: the association ended without an answer."""
    request = C_STORE()
    request.MessageID, request.Priority = 7, 2
    request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = sop_class_uid, sop_instance_uid
    request.DataSet = BytesIO(data)
    association._reactor_checkpoint.clear()
    until(lambda: association._is_paused)
    association.dimse.send_msg(request, association.accepted_contexts[0].context_id)
    _, answer = association.dimse.get_msg(block=True)
    association._reactor_checkpoint.set()
    return None if answer is None else int(answer.Status)


def data_set_of(ds: Dataset) -> bytes:
    """A data set in explicit little endian, without file meta information."""
    return encode(ds, is_implicit_vr=False, is_little_endian=True) or b""


def until(true: Callable[[], bool], within_s: float = 60.0) -> None:
    """Wait until something is true."""
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, "it did not become true"
        time.sleep(0.02)


@contextmanager
def connection(receiver: Receiver) -> Iterator[socket.socket]:
    """A plain connection, for peers that speak otherwise than they should."""
    with socket.create_connection(("127.0.0.1", receiver.port), timeout=90) as plain:
        yield plain


def threads_of_associations() -> int:
    """Threads that serve connections of receivers in this process."""
    names = ("AcceptorThread", "process_request_thread", "run_reactor")
    return sum(any(name in thread.name for name in names) for thread in threading.enumerate())


def pdu(kind: int, body: bytes) -> bytes:
    """A PDU of the upper layer (PS3.8 9.3)."""
    return struct.pack(">BBL", kind, 0, len(body)) + body
