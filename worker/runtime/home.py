"""The state folder of the embedded default: its lock, its private Redis, its queue worker. All end with their owner.

Imports little: the queue worker needs a second to load its libraries, so it is started before its owner loads more.
"""

import fcntl
import json
import logging
import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from worker.errors import HomeInUse
from worker.runtime.children import queue_worker, worker_log
from worker.runtime.pids import is_running
from worker.runtime.readiness_gate import Gate
from worker.runtime.state_folder import make_home
from worker.settings import Settings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Holder:
    """The process that holds the lock of a state folder."""

    pid: int
    role: str

    @property
    def is_alive(self) -> bool:
        """Whether the process still runs."""
        return is_running(self.pid)


#: Roles that hold a state folder for a long time and serve its queue: other commands may give them work.
SERVING_ROLES = ("run", "watch")

#: Roles that give their work to a serving process if there is one.
GUEST_ROLES = ("screen", "batch")


@dataclass(frozen=True)
class Home:
    """A state folder: held by this process, with the queue worker started for it, or held by a `worker run` that takes
    this process's work."""

    settings: Settings
    host: Holder | None  #: the `worker run` that takes this process's work
    worker: "subprocess.Popen[bytes] | None"  #: the queue worker, if this process started it
    gate: Gate
    worker_stack: ExitStack  #: closed to stop the queue worker
    worker_log_from: int = 0  #: where the log of this queue worker begins in the file that has those of earlier ones


@contextmanager
def hold_home(settings: Settings, role: str, *, with_worker: bool) -> Iterator[Home]:
    """Hold the state folder in `role`, with a queue worker that waits at the gate.

    If a `worker run` or `watch` already serves an embedded state folder, `screen` and `batch` give their work to it.
    Raises HomeInUse, NoHome.
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
            stack.enter_context(gate)  # closed until the end: a worker stopped before has changed nothing
        worker_stack = stack.enter_context(ExitStack())
        log_file, begins_at = worker_log(settings), 0
        if is_ours:
            begins_at = log_file.stat().st_size if log_file.is_file() else 0
            worker = worker_stack.enter_context(queue_worker(settings))
        yield Home(settings, host, worker, gate, worker_stack, begins_at)


@contextmanager
def lock(settings: Settings, role: str) -> Iterator[None]:
    """Lock the state folder; raises HomeInUse, naming the holder. The kernel unlocks it when the process dies."""
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
    """The process that last took the lock, whether it still runs or not."""
    try:
        return Holder(**json.loads((settings.home / "lock").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
