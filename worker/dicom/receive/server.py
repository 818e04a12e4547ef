"""The listening socket and its connections: how many, from where, with TLS, and how they end."""

import logging
import secrets
import socket
import ssl
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.transport import RequestHandler, ThreadedAssociationServer

from worker.dicom.deadline_socket import DeadlineSocket
from worker.dicom.log_limit import LogLimit
from worker.dicom.receive.connections import Connections
from worker.dicom.receive.spool import SpooledObject
from worker.dicom.receive.spooling_provider import SpoolingProvider
from worker.dicom.receive.statuses import Status
from worker.runtime.error_place import place_of

log = logging.getLogger(__name__)

#: A TLS handshake must end in this time.
HANDSHAKE_S = 30.0

#: How long the threads of a connection may take to end after it.
END_S = 40.0

#: After the time to drain: an abort may leave, then a connection whose socket was shut may end.
ABORT_S, SHUT_S = 1.0, 2.0


class Connection(RequestHandler):
    """One connection in a thread of its own, which waits for its end and then removes what it leaves."""

    server: "Server"

    def handle(self) -> None:
        """Serve the association of this connection to its end."""
        association = self._create_association()
        provider = SpoolingProvider(association, self.server.begin, self.server.refusal)
        association.dimse = provider
        association.bind(evt.EVT_FSM_TRANSITION, end_unrequested)
        association.bind(evt.EVT_ACCEPTED, lambda _: self.server.connections.associated(self.request))
        try:
            evt.trigger(association, evt.EVT_CONN_OPEN, {"address": self.client_address})
            association.start()
            association.join()
        finally:
            association.dul.kill_dul()
            association.dul.join(END_S)
            provider.discard()
            self.server.ended(association)

    def _create_association(self) -> Association:
        association = super()._create_association()
        association.name = f"AcceptorThread@{secrets.token_hex(4)}"
        association.dul.socket = DeadlineSocket(association, client_socket=self.request)
        association.dul.event_queue.get_nowait()  # the socket made before had announced the connection already
        association.dul.daemon = True
        return association


def end_unrequested(event: evt.Event) -> None:
    """End the wait for a request when the connection has ended before one came: the library waits its whole time."""
    if event.next_state == "Sta1" and event.assoc.requestor.primitive is None:
        event.assoc.dul.to_user_queue.put(None)


class Server(ThreadedAssociationServer):
    """Accepts connections of addresses from which somebody may send, each in a thread."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(
        self,
        *arguments: Any,
        begin: Callable[[bytes], SpooledObject],
        refusal: Callable[[], Status | None],
        admits_address: Callable[[str], bool],
        ended: Callable[[Association], None],
        refused: Callable[[str], None],
        **options: Any,
    ) -> None:
        """`refused`: called with the reason when a connection is closed before any association."""
        self.begin, self.refusal, self.admits_address = begin, refusal, admits_address
        self.ended, self.refused = ended, refused
        self.connections, self.log_limit = Connections(), LogLimit()
        super().__init__(*arguments, request_handler=Connection, **options)

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept; TLS begins in the connection's own thread, so that nobody can hold this one."""
        assert self.socket is not None
        accepted, address = self.socket.accept()
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return accepted, address

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Whether the connection may stay open."""
        address = str(client_address[0])
        if not self.admits_address(address):
            self.refused("address")
            return False
        if self.connections.take(request, address):
            return True
        self.refused("connections")
        return False

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 as socketserver calls it
        """Forget a connection for which no thread could be started; it is closed by the caller."""
        self.connections.leave(request)
        error = sys.exc_info()[1]
        if error is not None:
            log.error("connection_failed", extra={"kind": place_of(error)})

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve one connection to its end; what it leaves is closed in any case."""
        opened = request
        try:
            if self.ssl_context:
                request.settimeout(HANDSHAKE_S)
                opened = self.connections.replace(request, partial(with_tls, self.ssl_context))
                opened.do_handshake()
            self.finish_request(opened, client_address)
        except (ssl.SSLError, OSError) as error:
            self.refused("handshake" if self.ssl_context else "connection")
            left_out = self.log_limit.left_out(client_address[0], place_of(error))
            if left_out is not None:
                log.info("connection_failed", extra={"kind": place_of(error), "left_out": left_out})
        finally:
            with suppress(OSError):
                opened.shutdown(socket.SHUT_RDWR)
            opened.close()
            self.connections.leave(opened)

    def drain(self, within_s: float) -> bool:
        """Accept nothing more and wait for the associations under way; abort what is left, then shut its sockets.

        No peer and no state of the upper layer can make it wait longer than `within_s`, ABORT_S and SHUT_S. Returns
        whether every connection has ended.
        """
        self.shutdown()
        if self._end_within(within_s):
            return True
        for association in self.active_associations:
            if association.is_established:  # others have no abort (PS3.8 9.2.3), or have sent one
                association.abort(block=False)
        if self._end_within(ABORT_S):
            return True
        self.connections.shut_all()
        return self._end_within(SHUT_S)

    def _end_within(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while self.open_connections() and time.monotonic() < deadline:
            time.sleep(0.02)
        return not self.open_connections()

    def open_connections(self) -> int:
        """How many connections are open."""
        return len(self.connections)


def with_tls(context: ssl.SSLContext, request: socket.socket) -> ssl.SSLSocket:
    """The connection with TLS, which has not begun; the plain one is detached."""
    return context.wrap_socket(request, server_side=True, do_handshake_on_connect=False)
