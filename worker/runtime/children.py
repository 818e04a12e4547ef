"""Child processes that end with their owner."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from worker.runtime.parent_death import die_with_parent
from worker.settings import Settings

#: How long the queue worker may take to finish its studies before it is killed; their leases then lapse, and they are
#: screened again.
DRAIN_S = 60.0


def worker_log(settings: Settings) -> Path:
    """The file to which the queue workers of this state folder append their logs."""
    return settings.home / "logs" / "worker.log"


@contextmanager
def queue_worker(settings: Settings) -> Iterator["subprocess.Popen[bytes]"]:
    """A Celery worker as a child with `settings.processes` processes; at the end it may finish its studies."""
    command = [
        *(sys.executable, "-m", "celery", "-A", "worker.app", "worker", "--pool", "prefork"),
        *("--concurrency", str(settings.processes), "--hostname", f"screening-{os.getpid()}@%h"),
        *("--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "WARNING"),
    ]
    environment = {**os.environ, "SCREENING_HOME": str(settings.home)}
    with child(command, worker_log(settings), DRAIN_S, environment) as process:
        yield process


@contextmanager
def child(
    command: list[str], log: Path, drain_s: float, environment: dict[str, str] | None = None
) -> Iterator["subprocess.Popen[bytes]"]:
    """A child process that ends with this process: SIGTERM at the end, SIGKILL when that has no effect or when this
    process dies.

    `environment`: instead of the inherited one.
    """
    log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            start_new_session=True,  # Ctrl-C reaches only this process, which then stops the child
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
