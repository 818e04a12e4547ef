"""TLS of the page: a connection counts from its first packet, and a client that does not finish its handshake in time
is cut off."""

import asyncio
import ssl
from collections.abc import Callable
from typing import Any, Protocol

HANDSHAKE_S = 10.0


class Counted(Protocol):
    """A protocol that counts its connections."""

    def enter(self, transport: asyncio.BaseTransport) -> bool:
        """Take a place; False when there is none left for this address."""

    def leave(self) -> None:
        """Give the place back."""

    def connection_made(self, transport: Any) -> None:
        """The connection is there."""

    def data_received(self, data: bytes) -> None:
        """The client has said something."""


class Handshake(asyncio.Protocol):
    """A connection until its TLS is agreed; then it is handed to the protocol that speaks over it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, protocol: Counted, context: ssl.SSLContext) -> None:
        self.loop, self.protocol, self.context = loop, protocol, context
        self.shaking: asyncio.Task[None] | None = None
        self.early = b""  #: what came with the end of the handshake

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, where there is a place."""
        transport.pause_reading()  # until TLS reads
        if self.protocol.enter(transport):
            self.shaking = self.loop.create_task(self._shake(transport))
        else:
            transport.abort()

    def data_received(self, data: bytes) -> None:
        """Keep what the client says before the other protocol listens."""
        self.early += data

    async def _shake(self, transport: asyncio.Transport) -> None:
        try:
            secured = await self.loop.start_tls(
                transport, self, self.context, server_side=True, ssl_handshake_timeout=HANDSHAKE_S
            )
        except OSError:  # too slow, gone, or no TLS at all
            secured = None
        if secured is None or secured.is_closing():
            transport.abort()
            self.protocol.leave()
            return
        secured.set_protocol(self.protocol)  # type: ignore[arg-type]
        self.protocol.connection_made(secured)
        if self.early:
            self.protocol.data_received(self.early)


class PageLoop(asyncio.SelectorEventLoop):
    """asyncio's loop, whose servers over TLS begin with `Handshake`: asyncio's own wait a minute, uncounted."""

    async def create_server(self, protocol_factory: Callable[[], Any], *args: Any, **how: Any) -> Any:
        """As asyncio's."""
        context = how.pop("ssl", None)
        if context is None:
            return await super().create_server(protocol_factory, *args, **how)
        return await super().create_server(lambda: Handshake(self, protocol_factory(), context), *args, **how)
