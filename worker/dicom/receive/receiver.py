"""The SCP of C-STORE and C-ECHO: who may associate, how many at once, and how each object is answered."""

import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from pynetdicom import AE, evt
from pynetdicom.association import Association

from schema.vocabulary import Priority
from worker.dicom.identity import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from worker.dicom.log_limit import LogLimit
from worker.dicom.receive.contexts import accepted_contexts
from worker.dicom.receive.reception import Command, Reception
from worker.dicom.receive.server import Server
from worker.dicom.receive.spool import Spool, SpooledObject
from worker.dicom.receive.spooling_provider import PDU_BYTES, SpoolingProvider
from worker.dicom.receive.statuses import Status
from worker.dicom.receive.tallies import Tallies
from worker.dicom.receive.titles import TITLE, Titles
from worker.dicom.tls import server_context
from worker.errors import Misconfigured
from worker.imaging.part10 import DEFLATED_LITTLE
from worker.intake.ingest import Intake
from worker.ledger.clocks import now
from worker.runtime.boundary import result_or_error
from worker.runtime.error_place import place_of
from worker.settings import Settings

log = logging.getLogger(__name__)

#: Associations at once, and those of one peer: calling title and address.
MOST_ASSOCIATIONS, MOST_OF_A_PEER = 16, 4

#: A peer that connects must ask for an association within this time.
REQUEST_S = 30.0

#: An association without a byte from its peer is aborted after this time.
IDLE_S = 60.0

#: Associations under way may end within this time after SIGTERM; the process then ends within 30 s of the signal.
DRAIN_S = 20.0

#: A comparison of pixels may then take this time; a longer one is made after the next start.
COMPARISON_S = 2.0


@dataclass(frozen=True)
class Rejection:
    """Result, source and reason of an A-ASSOCIATE-RJ (PS3.8 9.3.4), and our word for it."""

    reason: str
    result: int
    source: int
    diagnostic: int


#: A caller that is not on the list gets no reason: it does not learn whether its title or ours is wrong.
UNKNOWN_CALLER = Rejection("unknown_caller", 1, 1, 1)
WRONG_CALLED_TITLE = Rejection("called_title", 1, 1, 7)
#: Transient: the sender tries again.
TOO_MANY = Rejection("limit", 2, 3, 2)
TOO_MANY_OF_PEER = Rejection("peer_limit", 2, 3, 2)
FAULT = Rejection("fault", 2, 1, 1)


@dataclass(frozen=True)
class Peer:
    """The requestor of an accepted association."""

    title: str
    address: str
    association: str  #: random, for the log
    priority: Priority


class Receiver:
    """One receiver with its associations. It listens from the beginning, and accepts associations while `serving`."""

    def __init__(self, settings: Settings, intake: Intake, spool: Spool, clock: Callable[[], datetime] = now) -> None:
        """Raises BadSetting."""
        self.settings, self.spool = settings, spool
        self.titles = Titles.of(settings)
        self.tls = server_context(settings)
        self.tallies = Tallies()
        self.log_limit = LogLimit()
        self.reception = Reception(
            intake, clock, time.monotonic, lambda peer: self.tallies.own_results.labels(peer).inc()
        )
        self._peers: dict[Association, Peer] = {}
        self._lock = threading.Lock()
        self._accepting: threading.Thread | None = None
        self.server = self._listen()

    def _listen(self) -> Server:
        entity = AE(self.titles.own)
        entity.maximum_pdu_size = PDU_BYTES
        entity.acse_timeout, entity.dimse_timeout, entity.network_timeout = REQUEST_S, REQUEST_S, IDLE_S
        entity.maximum_associations = 10_000  # `admission` counts those that have asked, not mere connections
        entity.implementation_class_uid = IMPLEMENTATION_CLASS_UID
        entity.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        host, port = self.settings.receive_host, self.settings.receive_port
        try:
            server = Server(
                entity, (host, port), self.titles.own, accepted_contexts(), self.tls,
                evt_handlers=[(evt.EVT_REQUESTED, self._requested), (evt.EVT_C_STORE, self._store)],
                begin=self.spool.begin, refusal=self.reception.refusal, admits_address=self.titles.admits_address,
                ended=self._ended, refused=self._refused,
            )  # fmt: skip
        except OSError as error:
            raise Misconfigured(
                f"cannot listen on {host} port {port} ({error.strerror}): set SCREENING_RECEIVE_HOST and _PORT"
            ) from error
        entity._servers.append(server)
        return server

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self.server.server_address[1])

    @property
    def is_listening(self) -> bool:
        """Whether its thread accepts associations."""
        return self._accepting is not None and self._accepting.is_alive()

    @contextmanager
    def serving(self, drain_s: float = DRAIN_S) -> Iterator["Receiver"]:
        """Accept associations while the block runs; those under way then may end within `drain_s`."""
        comparison = self.reception.start()
        accepting = threading.Thread(target=partial(self.server.serve_forever, 0.1), name="accepting", daemon=True)
        accepting.start()
        self._accepting = accepting
        try:
            yield self
        finally:
            self.reception.stop()
            if not self.server.drain(drain_s):
                log.warning("associations_left", extra={"connections": self.server.open_connections()})
            comparison.join(COMPARISON_S)

    def admission(self, calling: str, called: str, address: str) -> Rejection | None:
        """Why this request is rejected; None: it is accepted. The caller is judged first, so a stranger learns nothing
        about titles and load."""
        if not self.titles.admits(calling, address):
            return UNKNOWN_CALLER
        if not self.titles.answers_to(called):
            return WRONG_CALLED_TITLE
        mine = [peer for peer in self._peers.values() if (peer.title, peer.address) == (calling, address)]
        if len(self._peers) >= MOST_ASSOCIATIONS:
            return TOO_MANY
        return TOO_MANY_OF_PEER if len(mine) >= MOST_OF_A_PEER else None

    def _requested(self, event: evt.Event) -> None:
        """Accept or reject the request of an association; also after a fault here, where the library would accept."""
        rejection: Rejection | None = FAULT
        try:
            rejection = self._judge(event.assoc)
        finally:
            if rejection is not None:
                event.assoc.acse.send_reject(rejection.result, rejection.source, rejection.diagnostic)
                event.assoc.is_rejected = True
                event.assoc.kill()

    def _judge(self, association: Association) -> Rejection | None:
        """Judge a request, and count and log what becomes of it."""
        request = association.requestor.primitive
        calling, called = request.calling_ae_title.strip(), request.called_ae_title.strip()
        address = str(association.requestor.address)
        with self._lock:
            rejection = self.admission(calling, called, address)
            if rejection is None:
                priority = Priority.STAT if called == self.titles.stat else Priority.ROUTINE
                peer = self._peers[association] = Peer(calling, address, secrets.token_hex(4), priority)
                self.tallies.open.set(len(self._peers))
        if rejection is None:
            self.tallies.associations.labels(peer.title).inc()
            log.info("association_accepted", extra={"association": peer.association, "peer": peer.title})
            return None
        self._refused(rejection.reason)
        left_out = self.log_limit.left_out(rejection.reason, address)
        if left_out is not None:
            about = {"reason": rejection.reason, "address": address, "left_out": left_out}
            titles = {"calling": calling, "called": called}
            about |= {role: title for role, title in titles.items() if TITLE.fullmatch(title)}
            log.warning("association_rejected", extra=about)
        return rejection

    def _refused(self, reason: str) -> None:
        self.tallies.rejections.labels(reason).inc()

    def _ended(self, association: Association) -> None:
        """Called when the threads of an association have ended, however that came."""
        with self._lock:
            peer = self._peers.pop(association, None)
            self.tallies.open.set(len(self._peers))
        if peer is not None:
            how = "released" if association.is_released else "lost"
            if association.is_aborted:
                how = "aborted"
            log.info("association_ended", extra={"association": peer.association, "how": how})

    def _store(self, event: evt.Event) -> int:
        """Answer one C-STORE request: its data set is in the spool."""
        provider: Any = event.assoc.dimse
        assert isinstance(provider, SpoolingProvider)
        request, peer = provider.arrived.popleft(), self._peers[event.assoc]
        status: Status | Exception | None = request.status
        try:
            if status is None:
                status = result_or_error(lambda: self._receive(event, peer, request.spooled))
        finally:
            request.spooled.discard()
        if isinstance(status, Exception):
            log.error("object_failed", extra={"association": peer.association, "kind": place_of(status)})
            status = Status.CANNOT_UNDERSTAND
        took_s = time.monotonic() - request.begun_s
        self.tallies.answered(peer.title, status, request.spooled.size_bytes, took_s)
        log.info("object_answered", extra={"association": peer.association, "status": status.label})
        return int(status)

    def _receive(self, event: evt.Event, peer: Peer, spooled: SpooledObject) -> Status:
        asked = event.request
        sop_class, sop_instance = str(asked.AffectedSOPClassUID), str(asked.AffectedSOPInstanceUID)
        if sop_class != event.context.abstract_syntax:
            return Status.DOES_NOT_MATCH
        is_deflated = event.context.transfer_syntax == DEFLATED_LITTLE
        command = Command(peer.title, sop_class, sop_instance, peer.priority, is_deflated)
        return self.reception.receive(command, spooled)
