"""Sends result objects: to an archive by C-STORE, or into an outbox folder. An answer is a state and a sentence."""

import logging
import os
import re
import socket
import ssl
import time
from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.association import Association

from schema.vocabulary import DispatchState
from worker.dicom.deadline_socket import DeadlineSocket
from worker.dicom.identity import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from worker.dicom.tls import client_context
from worker.errors import BadSetting, StorageUnavailable
from worker.imaging.header import MALFORMED
from worker.settings import Settings

log = logging.getLogger(__name__)

#: Seconds to connect, to associate, for an object with its answer, and for the answer to a release.
CONNECT_S, ASSOCIATE_S, ANSWER_S, RELEASE_S = 10.0, 30.0, 60.0, 5.0

#: The object may be there already from an attempt whose answer was lost (PS3.7 C.5.6).
DUPLICATE = 0x0111

#: Statuses that no later attempt would change: SOP Class not supported, not authorised.
FINAL = frozenset({0x0122, 0x0124})

UNREACHABLE = "the archive cannot be reached"

SYNTAXES = ["1.2.840.10008.1.2.1", "1.2.840.10008.1.2"]


@dataclass(frozen=True)
class Answer:
    """What became of one object."""

    state: DispatchState
    words: str


NOT_ENCODED = Answer(DispatchState.REFUSED, "it cannot be encoded")


class Destination(Protocol):
    """Takes objects in their order; gives an answer for each."""

    def send(self, objects: Sequence[Dataset]) -> Generator[Answer]:
        """Send them; an object whose turn does not come stays due."""

    def hang_up(self) -> None:
        """End what is under way, now and from now on; called by another thread. Its objects stay due."""


def destination_of(settings: Settings) -> Destination:
    """The destination in the settings. Raises BadSetting when there is none."""
    if not settings.send:
        raise BadSetting("SCREENING_SEND names no destination: set it to AETITLE@HOST:PORT, or to a folder")
    archive = re.fullmatch(r"([^@\\,]{1,16})@(.+):(\d{1,5})", settings.send)
    if archive is None:
        return Outbox(Path(settings.send))
    return Archive(settings.ae_title, archive[1], archive[2].strip("[]"), int(archive[3]), client_context(settings))


@dataclass
class Archive:
    """An archive by DIMSE: one association for all objects of a turn, within the times above.

    The library's own socket has no deadline: an archive that stops reading would block this process for ever.
    """

    calling: str
    title: str
    host: str
    port: int
    tls: ssl.SSLContext | None = None
    _opened: DeadlineSocket | None = None
    _is_over: bool = field(default=False)

    def send(self, objects: Sequence[Dataset]) -> Generator[Answer]:
        """Send them over one association."""
        try:
            association = self._associate({str(each.SOPClassUID) for each in objects})
        except OSError:  # its name has no address
            yield from (Answer(DispatchState.DUE, UNREACHABLE) for _ in objects)
            return
        accepted = {str(context.abstract_syntax) for context in association.accepted_contexts}
        if association.rejected_contexts and not accepted:  # then the library has aborted it
            yield from map(_not_accepted, objects)
            return
        if not association.is_established:
            words = "the archive rejects the association" if association.is_rejected else UNREACHABLE
            yield from (Answer(DispatchState.DUE, words) for _ in objects)
            return
        try:
            for each in objects:
                yield self._send_one(association, each, accepted)
        finally:
            self._allow(RELEASE_S)
            association.acse_timeout = RELEASE_S  # after an abort that the library has not noticed yet it waits as long
            if association.is_established:
                association.release()

    def _associate(self, sop_classes: set[str]) -> Association:
        entity = AE(self.calling)
        entity.implementation_class_uid = IMPLEMENTATION_CLASS_UID
        entity.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        entity.connection_timeout, entity.acse_timeout = CONNECT_S, ASSOCIATE_S
        entity.dimse_timeout = entity.network_timeout = ANSWER_S
        for sop_class in sorted(sop_classes):
            entity.add_requested_context(sop_class, SYNTAXES)
        tls = None if self.tls is None else (self.tls, self.host)
        return entity.associate(
            self.host, self.port, ae_title=self.title, tls_args=tls, evt_handlers=[(evt.EVT_CONN_OPEN, self._connected)]
        )

    def _allow(self, seconds: float) -> None:
        """Give the connection so much more time, for all that it still sends and receives.

        After its own timeouts the library goes on to send what is queued, which an archive that reads slowly prolongs.
        """
        if self._opened is not None:
            self._opened.last_s = time.monotonic() + seconds

    def _connected(self, event: evt.Event) -> None:
        """Give the connection deadlines."""
        provider = event.assoc.dul
        self._opened = provider.socket = DeadlineSocket(event.assoc, client_socket=provider.socket.socket)
        provider.event_queue.get_nowait()  # the new socket has announced itself as an acceptor's: this one is not
        if self._is_over:
            self.hang_up()

    def hang_up(self) -> None:
        """End the association under way, whatever its archive does or does not."""
        self._is_over = True
        if self._opened is not None and self._opened.socket is not None:
            with suppress(OSError):
                socket.socket.shutdown(self._opened.socket, socket.SHUT_RDWR)

    def _send_one(self, association: Association, each: Dataset, accepted: set[str]) -> Answer:
        if str(each.SOPClassUID) not in accepted:
            return _not_accepted(each)
        if not association.is_established:
            return Answer(DispatchState.DUE, "the association has ended")
        self._allow(ANSWER_S)
        try:
            answer = association.send_c_store(each)
        except RuntimeError:  # it has ended since
            return Answer(DispatchState.DUE, "the association has ended")
        except ValueError:
            return NOT_ENCODED
        if "Status" not in answer:
            return Answer(DispatchState.DUE, "no answer")
        return answered(int(answer.Status))


def _not_accepted(each: Dataset) -> Answer:
    return Answer(
        DispatchState.REFUSED, f"the archive does not accept {each.SOPClassUID.name}: see SCREENING_REPORT_CLASS"
    )


def answered(status: int) -> Answer:
    """The meaning of a status of C-STORE (PS3.4 B.2.3): success and warnings are kept, some failures are final."""
    words = f"status {status:04X}"
    if status in (0x0000, DUPLICATE) or status >> 12 == 0xB or status in (0x0001, 0x0107, 0x0116):
        return Answer(DispatchState.SENT, words)
    if status >> 12 == 0xC or status >> 8 == 0xA9 or status in FINAL:
        return Answer(DispatchState.REFUSED, words)
    return Answer(DispatchState.DUE, words)


@dataclass(frozen=True)
class Outbox:
    """A folder from which another program takes the files: each is complete or absent."""

    folder: Path

    def send(self, objects: Sequence[Dataset]) -> Generator[Answer]:
        """Write each under its UID. Raises StorageUnavailable."""
        for each in objects:
            try:
                self._write(each)
            except MALFORMED:
                yield NOT_ENCODED
            else:
                yield Answer(DispatchState.SENT, "written")

    def hang_up(self) -> None:
        """A folder needs none."""

    def _write(self, each: Dataset) -> None:
        target = self.folder / f"{each.SOPInstanceUID}.dcm"
        draft = target.with_name(f".{target.name}.partial")
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with draft.open("wb") as file:
                each.save_as(file, enforce_file_format=True)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(target)
        except OSError as error:
            raise StorageUnavailable(f"the outbox cannot be written ({error.strerror})").about(
                str(self.folder)
            ) from error
        finally:
            with suppress(OSError):
                draft.unlink(missing_ok=True)
