"""The messages of one association (PS3.7): a data set goes to the spool as it comes, a command is held in memory.

Bounds what a peer may make us hold, and how slowly it may send.
"""

import logging
import re
import time
from collections import deque
from struct import unpack_from
from typing import TYPE_CHECKING

from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import UID
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.pdu_primitives import P_DATA

from worker.dicom.identity import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from worker.dicom.receive.spool import SpooledObject
from worker.dicom.receive.statuses import Status
from worker.errors import StorageUnavailable
from worker.imaging.header import MALFORMED
from worker.imaging.lenient_pydicom import lenient_pydicom

if TYPE_CHECKING:
    from collections.abc import Callable

    from pynetdicom.association import Association

log = logging.getLogger(__name__)

#: The PDU length that we offer (PS3.8 D.1).
PDU_BYTES = 131_072

#: A command set has some hundred bytes.
LONGEST_COMMAND_BYTES = 16_384

#: A command must be whole this long after its first fragment; a data set must then have come, and come on, at this mean
#: rate since its first fragment, or its association is aborted: small PDUs hold no place for ever.
REQUEST_S, LEAST_BYTES_PER_S = 30.0, 16_384

#: Command Field of what is served (PS3.7 E.1): C-STORE-RQ, C-ECHO-RQ. The library begins a thread for some others.
SERVED = frozenset({0x0001, 0x0030})

#: Requests that a peer may send before the first is answered. We negotiate one, and most send one.
MOST_UNANSWERED = 4

#: A UID as far as it matters here: it stands in a file, in a row and in an answer (PS3.5 9.1).
UID_TEXT = re.compile(r"[0-9.]{1,64}")

#: Message Control Header (PS3.8 E.2): the fragment is of a command; it is the last one.
IS_COMMAND, IS_LAST = 1, 2


class SpoolingProvider(DIMSEServiceProvider):
    """Takes the messages of one association apart: data sets of C-STORE go to the spool, others are not accepted."""

    def __init__(
        self, assoc: "Association", begin: "Callable[[bytes], SpooledObject]", refusal: "Callable[[], Status | None]"
    ) -> None:
        """`refusal`: the status with which an object is refused before its data are read; None: it may come."""
        super().__init__(assoc)
        self.begin, self.refusal = begin, refusal
        self.arrived: deque[StoredRequest] = deque()
        self.current: StoredRequest | None = None
        self._command = b""
        self._command_begun_s: float | None = None

    def receive_primitive(self, primitive: P_DATA) -> None:
        """Take fragments in their order. A peer that breaks the protocol is aborted (Evt19, PS3.8 9.2.1)."""
        try:
            fragments = primitive.presentation_data_value_list
            keeps_rules = bool(fragments) and all(self._takes(*fragment) for fragment in fragments)
        except MALFORMED:  # a command that is none
            keeps_rules = False
        if not keeps_rules:
            self.dul.event_queue.put("Evt19")

    def _takes(self, context_id: int, fragment: bytes) -> bool:
        """Take one fragment; False when the peer must be aborted."""
        if not fragment:
            return False
        header = fragment[0]
        if header & IS_COMMAND:
            if not self._takes_command(fragment[1:]):
                return False
            if header & IS_LAST and not self._is_served():
                return False
            self._pass_on(context_id, fragment)
            return self._begin(context_id) if header & IS_LAST else True
        if self.current is None:
            return False
        self.current.take(fragment[1:])
        if self.current.is_too_slow():
            return False
        if header & IS_LAST:
            self.arrived.append(self.current)
            self.current = None
            self._pass_on(context_id, bytes([IS_LAST]))
        return True

    def _takes_command(self, piece: bytes) -> bool:
        """Take a piece of a command; False when it comes within a data set, is too long or takes too long."""
        if self._command_begun_s is None:
            self._command_begun_s = time.monotonic()
        self._command += piece
        is_late = is_too_slow(time.monotonic() - self._command_begun_s, 0)
        return self.current is None and len(self._command) <= LONGEST_COMMAND_BYTES and not is_late

    def _begin(self, context_id: int) -> bool:
        """After a command: whether it is one that we serve. One with a data set waits for that."""
        self._command, self._command_begun_s = b"", None
        if self.message is None:  # complete: it has no data set
            return True
        context = self.assoc._accepted_cx.get(context_id)
        if not isinstance(self.message, C_STORE_RQ) or context is None:
            return False
        asked = self.message.command_set
        sop_class, sop_instance = str(asked.get("AffectedSOPClassUID")), str(asked.get("AffectedSOPInstanceUID"))
        if not UID_TEXT.fullmatch(sop_class) or not UID_TEXT.fullmatch(sop_instance):
            return False
        head = file_head(sop_class, sop_instance, str(context.transfer_syntax[0]))
        self.current = StoredRequest(self.begin(head), self.refusal())
        return True

    def _is_served(self) -> bool:
        """Whether a whole command is one that we serve, and the peer waits for answers."""
        waits_for_answers = self.msg_queue.qsize() < MOST_UNANSWERED and len(self.arrived) < MOST_UNANSWERED
        return waits_for_answers and command_field(self._command) in SERVED

    def _pass_on(self, context_id: int, fragment: bytes) -> None:
        whole = P_DATA()
        whole.presentation_data_value_list = [[context_id, fragment]]
        super().receive_primitive(whole)

    def discard(self) -> None:
        """Remove what was not answered: the association has ended."""
        for request in [*self.arrived, *([self.current] if self.current else [])]:
            request.spooled.discard()
        self.arrived.clear()
        self.current = None


def command_field(command: bytes) -> int | None:
    """Command Field (0000,0100) of a command set, implicit VR little endian (PS3.7 6.3.1); None without one."""
    at = 0
    while at + 8 <= len(command):
        group, number, length = unpack_from("<HHL", command, at)
        if (group, number, length) == (0x0000, 0x0100, 2) and at + 10 <= len(command):
            return int(unpack_from("<H", command, at + 8)[0])
        at += 8 + length
    return None


def file_head(sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> bytes:
    """Preamble and file meta information (PS3.10 7.1), the same for the same object whoever sends it."""
    with lenient_pydicom():  # the UIDs are untrusted
        meta = FileMetaDataset()
        meta.FileMetaInformationVersion = b"\x00\x01"
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = UID(sop_class_uid), UID(sop_instance_uid)
        meta.TransferSyntaxUID = UID(transfer_syntax_uid)
        meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
        meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
        written = DicomBytesIO()
        write_file_meta_info(written, meta)
    return b"\0" * 128 + b"DICM" + written.getvalue()


def is_too_slow(took_s: float, size_bytes: int) -> bool:
    """Whether a request is to be given up, of which so many bytes have come in this time."""
    return size_bytes < (took_s - REQUEST_S) * LEAST_BYTES_PER_S


class StoredRequest:
    """The data set of one C-STORE request on its way: in the spool, or refused and read to its end."""

    def __init__(self, spooled: SpooledObject, status: Status | None) -> None:
        self.spooled, self.status = spooled, status
        self.begun_s = time.monotonic()
        self.received_bytes = 0
        self._first_s: float | None = None
        self._spooling_s = 0.0

    def take(self, piece: bytes) -> None:
        """Spool a piece; after a refusal the rest is read and forgotten, so that the sender can hear the status."""
        arrived_s = time.monotonic()
        self._first_s = arrived_s if self._first_s is None else self._first_s
        self.received_bytes += len(piece)
        if self.status is None:
            self._spool(piece)
            self._spooling_s += time.monotonic() - arrived_s

    def is_too_slow(self) -> bool:
        """Whether the peer sends more slowly than the least rate; the time that the spool takes is not counted."""
        took_s = 0.0 if self._first_s is None else time.monotonic() - self._first_s - self._spooling_s
        return is_too_slow(took_s, self.received_bytes)

    def _spool(self, piece: bytes) -> None:
        try:
            self.spooled.write(piece)
        except StorageUnavailable as error:
            log.error("spool_unavailable", extra={"code": error.code, "reason": error.message})
            self.status = Status.OUT_OF_RESOURCES
        except OverflowError:
            log.warning("object_too_large", extra={"limit_bytes": self.spooled.limit_bytes})
            self.status = Status.CANNOT_UNDERSTAND
        if self.status is not None:
            self.spooled.discard()
