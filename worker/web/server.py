"""Serves the page over HTTP/1.1, on this machine only or over TLS, until it is told to stop."""

import asyncio
import socket
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from worker.settings import Settings
from worker.web.application import build
from worker.web.exposure import check_exposure
from worker.web.guards import MOST_HEADER_BYTES
from worker.web.room import ReadingRoom

HEADER_DEADLINE_S = 10.0
IDLE_CONNECTION_S = 30


class PatientProtocol(H11Protocol):
    """HTTP/1.1, but a client that begins a request must finish its header in time: else it is cut off."""

    deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the first deadline with the connection."""
        super().connection_made(transport)
        # asyncio does so only for sockets that name their protocol: without it an answer may wait 40 ms for its own end
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.access_log = False  # whatever a handler of the root logger says: a path may hold anybody's text
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
        super().connection_lost(exc)

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


def server(settings: Settings, room: ReadingRoom) -> uvicorn.Server:
    """A server that is not serving yet. Raises BadSetting for settings that would expose the page."""
    check_exposure(settings)
    tls: dict[str, Any] = {}
    if settings.web_tls_certificate:
        tls = {"ssl_certfile": settings.web_tls_certificate, "ssl_keyfile": settings.web_tls_key}
    return uvicorn.Server(
        uvicorn.Config(
            build(room),
            host=settings.web_host.strip("[]"),
            port=settings.web_port,
            http=PatientProtocol,
            ws="none",
            lifespan="off",
            loop="asyncio",
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
