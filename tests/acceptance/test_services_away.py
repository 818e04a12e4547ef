"""`worker screen` with a broker or database that does not serve: it says what it waits for, and ends."""

import signal
import socket
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import redis

from tests.acceptance.installation import SAMPLES, Installation
from tests.chaos.servers import LOOPBACK, free_port
from worker.runtime.children import child
from worker.runtime.redis_server import redis_server

pytestmark = pytest.mark.slow

SAMPLE = SAMPLES / "ida_8_bit.png"

#: The patience that is asked for, when a wait must be told at the latest, and what a busy machine may take besides.
WAIT_S, SPEAKS_S, SLOW_S = 10.0, 5.0, 100.0


@dataclass
class Outcome:
    """What the program said, when, and how it ended."""

    code: int = -1
    lines: list[tuple[float, str]] = field(default_factory=list)

    @property
    def spoke_before_end_s(self) -> float:
        """How long before its end it first said what it waits for; the start of the program does not count."""
        return self.lines[-1][0] - next(moment for moment, line in self.lines if "waits for" in line)

    @property
    def words(self) -> str:
        return "".join(line for _, line in self.lines)


def screen(site: Installation, *words: str) -> Outcome:
    """Run `worker screen` for the patience given; its errors with their times since the first."""
    outcome, began = Outcome(), time.monotonic()
    command = [*site.command("screen", SAMPLE, "--wait", str(WAIT_S)), *words]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=site.environment()
    ) as process:
        killer = threading.Timer(WAIT_S + SLOW_S, process.kill)
        killer.start()
        assert process.stderr is not None
        for line in process.stderr:
            outcome.lines.append((time.monotonic() - began, line))
        outcome.code = process.wait()
        killer.cancel()
    assert outcome.code != -signal.SIGKILL, outcome.words
    return outcome


@contextmanager
def silent_server() -> Iterator[int]:
    """A port that accepts and says nothing."""
    with socket.create_server((LOOPBACK, 0), backlog=64) as listener:
        yield int(listener.getsockname()[1])


@contextmanager
def redis_on(log: Path, *options: str) -> Iterator[int]:
    port = free_port()
    command = [str(redis_server()), "--bind", LOOPBACK, "--port", str(port), "--save", "", "--appendonly", "no"]
    with child([*command, *options], log, 5.0):
        deadline = time.monotonic() + SLOW_S
        while time.monotonic() < deadline:
            try:
                redis.Redis(host=LOOPBACK, port=port).ping()
                break
            except redis.AuthenticationError:
                break
            except redis.ConnectionError:
                time.sleep(0.05)
        yield port


@contextmanager
def nobody(_log: Path) -> Iterator[int]:
    """A port on which nobody listens, and which nobody else is given."""
    with socket.socket() as held:
        held.bind((LOOPBACK, 0))
        yield int(held.getsockname()[1])


BROKERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "not there": (nobody, "it is not there"),
    "silent": (lambda _: silent_server(), "broker"),
    "wants a password": (lambda log: redis_on(log, "--requirepass", "secret"), "it wants a password"),
    "full": (lambda log: redis_on(log, "--maxmemory", "400kb", "--maxmemory-policy", "noeviction"), "it is full"),
    "read-only replica": (
        lambda log: redis_on(log, "--replicaof", LOOPBACK, "1", "--replica-serve-stale-data", "yes"), "read-only",
    ),
}  # fmt: skip


#: What a queue worker ends of: then there is nothing more to wait for.
ENDS_CELERY = ("full", "read-only replica")


@pytest.mark.parametrize("fault", BROKERS)
def test_a_broker_that_does_not_serve_is_told_and_ends_with_2(tmp_path: Path, fault: str) -> None:
    start, said = BROKERS[fault]
    with start(tmp_path / "redis.log") as port:  # type: ignore[attr-defined]
        site = Installation(tmp_path / "home", {"SCREENING_BROKER": f"redis://{LOOPBACK}:{port}/0"})
        outcome = screen(site)
        assert outcome.code == 2, outcome.words
        assert said in outcome.words
        assert "[broker_unavailable]" in outcome.lines[-1][1]
        assert "Traceback" not in outcome.words
        if fault not in ENDS_CELERY:
            assert outcome.spoke_before_end_s > WAIT_S - SPEAKS_S, "it waits meanwhile"
        check = subprocess.run(
            site.command("check"), capture_output=True, text=True, env=site.environment(), check=False, timeout=500
        )
        assert check.returncode == 1
        broker = next(line for line in check.stdout.splitlines() if " broker " in line)
        assert broker.startswith("FAIL")
        assert said in broker


def test_a_database_that_accepts_and_says_nothing(tmp_path: Path) -> None:
    with silent_server() as port:
        site = Installation(tmp_path / "home", {"SCREENING_DATABASE": f"postgresql://me@{LOOPBACK}:{port}/x"})
        outcome = screen(site)
    assert outcome.code == 2, outcome.words
    assert "waits for the database" in outcome.words
    assert outcome.spoke_before_end_s > WAIT_S - SPEAKS_S
    assert "[database_unavailable]" in outcome.lines[-1][1]


def test_a_database_that_another_program_locks(tmp_path: Path) -> None:
    site = Installation(tmp_path / "home")
    site.run("screen", SAMPLE)
    with sqlite3.connect(tmp_path / "home" / "screening.sqlite", isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        process = subprocess.Popen(
            site.command("screen", SAMPLES / "leo_native.jpeg"), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            text=True, env=site.environment(),
        )  # fmt: skip
        assert process.stderr is not None
        assert any("waits for the database" in line for line in process.stderr)
        other.execute("ROLLBACK")
    process.communicate(timeout=120)
    assert process.returncode == 0, "it goes on where it was"
