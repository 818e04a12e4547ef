"""A TCP proxy between the workers and their broker, which can cut the connection or drop all data."""

import socket
import threading
from contextlib import suppress

from tests.chaos.servers import LOOPBACK

#: Bytes passed on at a time.
CHUNK = 65536


class Proxy:
    """Passes connections on to a port of this machine."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.is_cut = self.is_silent = False
        self._swallowed: set[tuple[socket.socket, socket.socket]] = set()
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server((LOOPBACK, 0), backlog=64)
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, name="proxy", daemon=True).start()

    def cut(self) -> None:
        """Break every connection, and refuse new ones."""
        with self._lock:
            self.is_cut = True
            pairs = list(self._pairs)
        for pair in pairs:
            self._close(pair)

    def fall_silent(self) -> None:
        """Drop all data, as a firewall does that forgot its connections: neither side ever gets an error."""
        with self._lock:
            self.is_silent = True
            self._swallowed |= self._pairs

    def mend(self) -> None:
        """Let new connections through again."""
        self.is_cut = self.is_silent = False

    def close(self) -> None:
        """End it."""
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return  # closed
            if self.is_cut:
                near.close()
                continue
            try:
                far = socket.create_connection((LOOPBACK, self.target), timeout=5)
            except OSError:
                near.close()
                continue
            far.settimeout(None)
            pair = (near, far)
            with self._lock:
                self._pairs.add(pair)
                if self.is_silent:
                    self._swallowed.add(pair)
            for source, sink in (pair, pair[::-1]):
                threading.Thread(target=self._pass_on, args=(source, sink, pair), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket, pair: tuple[socket.socket, socket.socket]) -> None:
        with suppress(OSError):
            while chunk := source.recv(CHUNK):
                if pair not in self._swallowed:
                    sink.sendall(chunk)
        self._close(pair)

    def _close(self, pair: tuple[socket.socket, socket.socket]) -> None:
        with self._lock:
            self._pairs.discard(pair)
            self._swallowed.discard(pair)
        for end in pair:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
