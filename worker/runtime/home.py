"""The state folder of the embedded default: its lock, its private Redis, its queue worker. All die with their owner.

Light: the queue worker takes a second to load its libraries, and is started before its owner loads his own.
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
from worker.runtime.children import queue_worker
from worker.runtime.gate import Gate
from worker.runtime.state_folder import make_home
from worker.settings import Settings

log = logging.getLogger(__name__)


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
    gate: Gate
    worker_stack: ExitStack  #: closed when the queue worker is to go


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
        worker_stack = stack.enter_context(ExitStack())
        if is_ours:
            worker = worker_stack.enter_context(queue_worker(settings))
        yield Home(settings, host, worker, gate, worker_stack)


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
