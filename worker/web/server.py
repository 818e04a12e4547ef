"""Serves the page over HTTP/1.1, on this machine only or over TLS, until it is told to stop."""

import asyncio
import socket
import struct
from collections import Counter
from typing import Any, ClassVar

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from worker.settings import Settings
from worker.web.application import build
from worker.web.guards import MOST_HEADER_BYTES
from worker.web.network_exposure import check_exposure
from worker.web.page_context import PageContext

HEADER_DEADLINE_S = 10.0
IDLE_CONNECTION_S = 30

#: A client that reads an answer must take so much of it in this time, or all that is left.
TAKEN_S, TAKEN_BYTES = 20.0, 64 * 1024

#: Nothing is sent after a connection was given up (`struct linger`: on, 0 s).
AT_ONCE = struct.pack("ii", 1, 0)

#: Open connections, of all addresses and of one address; the second does not hold for a named proxy.
MOST_CONNECTIONS, MOST_OF_AN_ADDRESS = 768, 256


class PatientProtocol(H11Protocol):
    """HTTP/1.1, but a client that begins a request must finish its header in time, and take its answer: else it is cut
    off. So is one that opens too many connections."""

    deadline: asyncio.TimerHandle | None = None
    taking: asyncio.TimerHandle | None = None
    open_connections: ClassVar[Counter[str]] = Counter()  #: by address; each server has its own
    proxies: ClassVar[frozenset[str]] = frozenset()
    address: str | None = None  #: of the client, while this connection has a place

    def enter(self, transport: asyncio.BaseTransport) -> bool:
        """Take a place, over TLS before the handshake; False when there is none left for this address."""
        self.address = str((transport.get_extra_info("peername") or ("",))[0])
        self.open_connections[self.address] += 1
        is_many = self.open_connections[self.address] > MOST_OF_AN_ADDRESS and self.address not in self.proxies
        has_place = not is_many and self.open_connections.total() <= MOST_CONNECTIONS
        if not has_place:
            self.leave()
        return has_place

    def leave(self) -> None:
        """Give the place back."""
        if self.address is None:
            return
        self.open_connections[self.address] -= 1
        if not self.open_connections[self.address]:
            del self.open_connections[self.address]
        self.address = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the first deadline with the connection."""
        super().connection_made(transport)
        if self.address is None and not self.enter(transport):
            transport.abort()
            return
        # asyncio sets it only on sockets that name their protocol; without it the end of an answer may wait 40 ms
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.access_log = False  # uvicorn would set it if the root logger has a handler; a path may hold any text
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Stop the deadline when a whole header is there, start one when a part of the next one comes."""
        super().data_received(data)
        is_answering = self.cycle is not None and not self.cycle.response_complete
        if is_answering:
            self._unwatch()
        elif self.deadline is None:
            self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is left to wait for."""
        self._unwatch()
        self._stop_taking()
        self.leave()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The client takes its answer more slowly than it is written: watch that it takes it at all."""
        super().pause_writing()
        self._watch_taking()

    def resume_writing(self) -> None:
        """The client has taken it."""
        self._stop_taking()
        super().resume_writing()

    def _watch_taking(self) -> None:
        left = self.transport.get_write_buffer_size()
        self.taking = self.loop.call_later(TAKEN_S, self._cut_off_unless_taken, left)

    def _stop_taking(self) -> None:
        if self.taking is not None:
            self.taking.cancel()
            self.taking = None

    def _cut_off_unless_taken(self, before: int) -> None:
        if before - self.transport.get_write_buffer_size() < TAKEN_BYTES:
            # without this the kernel would keep what is left for the client
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
            self.transport.abort()
        else:
            self._watch_taking()

    def _watch(self) -> None:
        self.deadline = self.loop.call_later(HEADER_DEADLINE_S, self._cut_off)

    def _unwatch(self) -> None:
        if self.deadline is not None:
            self.deadline.cancel()
            self.deadline = None

    def _cut_off(self) -> None:
        self.deadline = None
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()


def server(settings: Settings, context: PageContext) -> uvicorn.Server:
    """A server that is not serving yet. Raises BadSetting for settings that would expose the page."""
    check_exposure(settings)
    tls: dict[str, Any] = {}
    if settings.web_tls_certificate:
        tls = {"ssl_certfile": settings.web_tls_certificate, "ssl_keyfile": settings.web_tls_key}
    return uvicorn.Server(
        uvicorn.Config(
            build(context),
            host=settings.web_host.strip("[]"),
            port=settings.web_port,
            http=type("Protocol", (PatientProtocol,), {"open_connections": Counter(), "proxies": context.proxies}),
            ws="none",
            lifespan="off",
            loop="worker.web.handshake:PageLoop",
            interface="asgi3",
            log_config=None,
            access_log=False,  # `guards` logs each request, without its path; see also `PatientProtocol`
            server_header=False,
            proxy_headers=False,  # `addresses` believes named proxies alone
            timeout_keep_alive=IDLE_CONNECTION_S,
            timeout_graceful_shutdown=5,
            h11_max_incomplete_event_size=MOST_HEADER_BYTES,
            **tls,
        )
    )
