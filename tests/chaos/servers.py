"""The servers of a chaos run: Redis, PostgreSQL, the disk of the store, the clock."""

import ctypes
import importlib.util
import os
import signal
import socket
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import redis
from sqlalchemy.engine import make_url

from tests.chaos.crew import children
from tests.postgres_server import start_server, until_ready
from worker.runtime.children import child
from worker.runtime.redis_server import redis_server

LOOPBACK = "127.0.0.1"

#: How long a server may take to start on a busy machine.
START_S = 60.0

#: umount2 flag: detach at once, although it is in use.
MNT_DETACH = 2


class RedisServer:
    """A Redis on a TCP port, without persistence."""

    def __init__(self, log: Path) -> None:
        self.log, self.port = log, free_port()
        self._running = ExitStack()

    def start(self) -> None:
        """Start it and wait until it answers."""
        command = [
            str(redis_server()),
            "--bind",
            LOOPBACK,
            "--port",
            str(self.port),
            "--save",
            "",
            "--appendonly",
            "no",
        ]
        process = self._running.enter_context(child(command, self.log, drain_s=5.0))
        self.kill_by = process.kill
        deadline = time.monotonic() + START_S
        while not self._answers():
            assert process.poll() is None, f"Redis did not start: see {self.log}"
            assert time.monotonic() < deadline, "Redis does not answer"
            time.sleep(0.05)

    def kill(self) -> None:
        """Kill it, with everything it holds."""
        self.kill_by()
        self._running.close()

    def flush(self) -> None:
        """Take every message away."""
        with redis.Redis(host=LOOPBACK, port=self.port) as client:
            client.flushall()

    def stop(self) -> None:
        """Stop it."""
        self._running.close()

    def _answers(self) -> bool:
        try:
            with redis.Redis(host=LOOPBACK, port=self.port) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False


class PostgresServer:
    """A PostgreSQL of our own; its sockets need a short path."""

    def __init__(self, folder: Path) -> None:
        self._server = start_server(folder)

    @property
    def url(self) -> str:
        """The database URL for our settings."""
        url = make_url(str(self._server.get_uri())).set(drivername="postgresql+psycopg")
        return url.render_as_string(hide_password=False)

    def kill(self) -> None:
        """Crash it: no checkpoint, every connection cut."""
        pid = self._server.get_pid()
        os.kill(pid, signal.SIGQUIT)
        deadline = time.monotonic() + START_S
        while Path(f"/proc/{pid}").exists():
            assert time.monotonic() < deadline, "PostgreSQL does not die"
            time.sleep(0.05)

    def start(self) -> None:
        """Start it again; it recovers from its log."""
        until_ready(self._server.ensure_postgres_running)

    def fall_silent(self) -> None:
        """Stop every process of it where it is: connections stay, new ones are accepted, and nothing is answered."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it answer again."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        pid = self._server.get_pid()
        for process in (pid, *children(pid)):
            with suppress(ProcessLookupError):
                os.kill(process, number)

    def stop(self) -> None:
        """Stop it."""
        self._server.cleanup()


class Disk:
    """The folder of the store: on a small file system of its own where we may mount one."""

    def __init__(self, folder: Path, mebibytes: int) -> None:
        folder.mkdir()
        self.folder = folder
        size = f"size={mebibytes}m,mode=0700".encode()
        self.is_real = _libc().mount(b"tmpfs", os.fsencode(folder), b"tmpfs", 0, size) == 0

    @property
    def fault(self) -> str:
        """What `fill` does here."""
        return "disk full" if self.is_real else "store away (no right to mount a small disk)"

    def fill(self) -> None:
        """Leave no byte free; without a disk of its own, take the store away instead."""
        if not self.is_real:
            self.folder.rename(self._aside)
            self.folder.touch()
            return
        with (self.folder / "ballast").open("wb", buffering=0) as file:
            chunk = bytes(2**20)
            try:
                while file.write(chunk):
                    pass
            except OSError:
                return

    def free(self) -> None:
        """Make room again."""
        if not self.is_real:
            self.folder.unlink()
            self._aside.rename(self.folder)
            return
        (self.folder / "ballast").unlink()

    def close(self) -> None:
        """Unmount it."""
        if self.is_real:
            _libc().umount2(os.fsencode(self.folder), MNT_DETACH)

    @property
    def _aside(self) -> Path:
        return self.folder.with_name(self.folder.name + ".away")


class WallClock:
    """The clock that the processes see: real time, moved by a number of seconds, where libfaketime is installed."""

    def __init__(self, file: Path) -> None:
        self.file = file
        spec = importlib.util.find_spec("libfaketime")
        folders = (spec.submodule_search_locations or []) if spec else []
        found = [f for folder in folders for f in Path(folder).rglob("libfaketime.so.1")]
        self.library = found[0] if found else None
        self.move(0)

    def move(self, seconds: int) -> None:
        """Set the difference to real time. Steady clocks go on as they are."""
        draft = self.file.with_suffix(".draft")
        draft.write_text(f"{seconds:+d}s\n", encoding="ascii")
        draft.replace(self.file)

    @property
    def environment(self) -> dict[str, str]:
        """Variables under which a process sees this clock."""
        if self.library is None:
            return {}
        return {
            "LD_PRELOAD": str(self.library),
            "FAKETIME_TIMESTAMP_FILE": str(self.file),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",  # the name in older versions of the library
        }


def free_port() -> int:
    """A TCP port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
