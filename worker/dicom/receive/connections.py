"""The open connections of the receiver, and which of them is closed to make room for a new one. Knows no protocol.

Thread-safe.
"""

import socket
import ssl
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

#: Connections that may stay open, associated or not; and those of one address.
MOST_CONNECTIONS, MOST_OF_AN_ADDRESS = 64, 24

#: More connections that were shut to make room, and whose threads have not ended yet.
MOST_LEAVING = 32


@dataclass
class OpenConnection:
    """One open connection."""

    address: str
    is_associated: bool = False
    is_leaving: bool = False


class Connections:
    """The open connections, the oldest first."""

    def __init__(self) -> None:
        self._open: dict[socket.socket, OpenConnection] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """How many connections are open."""
        with self._lock:
            return len(self._open)

    def take(self, connection: socket.socket, address: str) -> bool:
        """Give a connection a place; False: there is none.

        When all places are taken, the address with most connections without an association loses its oldest one. So
        peers that connect and never ask for an association keep nobody out, from however many addresses they come.
        """
        with self._lock:
            if len(self._open) >= MOST_CONNECTIONS + MOST_LEAVING:
                return False
            staying = [place for place in self._open.values() if not place.is_leaving]
            if sum(place.address == address for place in staying) >= MOST_OF_AN_ADDRESS:
                is_free = self._make_room(address)
            else:
                is_free = len(staying) < MOST_CONNECTIONS or self._make_room()
            if is_free:
                self._open[connection] = OpenConnection(address)
            return is_free

    def _make_room(self, address: str | None = None) -> bool:
        """Shut the oldest connection without an association, of this address or of the one that holds most of them."""
        waiting = {
            connection: place.address
            for connection, place in self._open.items()
            if not place.is_associated and not place.is_leaving
        }
        if address is None and waiting:
            address = Counter(waiting.values()).most_common(1)[0][0]
        oldest = next((connection for connection, other in waiting.items() if other == address), None)
        if oldest is None:
            return False
        self._open[oldest].is_leaving = True
        shut(oldest)
        return True

    def associated(self, connection: socket.socket) -> None:
        """This connection has an association: it makes room for nobody."""
        with self._lock:
            place = self._open.get(connection)
            if place is not None:
                place.is_associated = True

    def replace(self, connection: socket.socket, wrap: Callable[[socket.socket], ssl.SSLSocket]) -> ssl.SSLSocket:
        """Give the place of a connection to what wraps and detaches it."""
        with self._lock:
            wrapped = wrap(connection)
            self._open[wrapped] = self._open.pop(connection)
            return wrapped

    def leave(self, connection: socket.socket) -> None:
        """Forget a connection that has ended."""
        with self._lock:
            self._open.pop(connection, None)

    def shut_all(self) -> None:
        """Wake the threads of all connections."""
        with self._lock:
            for connection in self._open:
                shut(connection)


def shut(connection: socket.socket) -> None:
    """Shut a connection down, which wakes its thread, also one within TLS."""
    with suppress(OSError):
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
