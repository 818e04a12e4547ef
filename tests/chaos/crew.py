"""Restarts the processes of a chaos run, as systemd would, and reads their logs."""

import json
import os
import re
import signal
import subprocess
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from worker.runtime.parent_death import die_with_parent

#: Time between a death and the next start (`RestartSec`), and between two looks.
RESTART_S, LOOK_S = 1.0, 0.05

#: The members that are no queue workers.
WATCHER, RECEIVER, SENDER, PAGE = "watcher", "receiver", "sender", "page"
NO_WORKERS = frozenset({WATCHER, RECEIVER, SENDER, PAGE})

#: What a queue worker says when it is ready; and a verb that runs until it is stopped.
READY = re.compile(rb" ready\.|SIGTERM stops")

#: The event of a start, which we add to the log of a member.
STARTED = "member_started"

#: How long members may take to finish what they hold at the end.
DRAIN_S = 60.0


@dataclass
class Member:
    """One process that shall always run."""

    name: str
    command: list[str]
    environment: dict[str, str]
    log: Path
    process: "subprocess.Popen[bytes] | None" = None
    start_at: float = 0.0
    read_bytes: int = 0


@dataclass(frozen=True)
class Entry:
    """One event that a member logged, stamped with our own steady clock when we read it."""

    at_s: float
    member: str
    event: str
    fields: dict[str, Any] = field(repr=False)


class Crew:
    """Runs its members until `stop`; whoever dies is started again."""

    def __init__(self, members: list[Member]) -> None:
        self.members = {member.name: member for member in members}
        self.entries: list[Entry] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="crew")

    def start(self, patience_s: float) -> None:
        """Start everybody, and wait until all say that they are ready."""
        for member in self.members.values():
            member.log.touch()
        self._thread.start()
        deadline = time.monotonic() + patience_s
        while not all(READY.search(member.log.read_bytes()) for member in self.members.values()):
            assert time.monotonic() < deadline, "a process does not start"
            time.sleep(LOOK_S)

    def stop(self) -> None:
        """Ask everybody to finish, and wait for it."""
        self._stopping.set()
        self._thread.join()

    def kill(self, name: str, *, only_child: bool = False) -> bool:
        """Kill a member, or the process that works for it; False when there is none just now."""
        process = self.members[name].process
        if process is None or process.poll() is not None:
            return False
        victims = children(process.pid) if only_child else [process.pid]
        with suppress(ProcessLookupError):
            for victim in victims:
                os.kill(victim, signal.SIGKILL)
            return bool(victims)
        return False

    def _watch(self) -> None:
        # members are started by this thread alone, for they die with the thread that started them
        while not self._stopping.wait(LOOK_S):
            for member in self.members.values():
                self._keep(member)
                self._read(member)
        running = [m.process for m in self.members.values() if m.process is not None]
        for process in running:
            process.terminate()
        for process in running:
            try:
                process.wait(timeout=DRAIN_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for member in self.members.values():
            self._read(member)

    def _keep(self, member: Member) -> None:
        now = time.monotonic()
        if member.process is not None and member.process.poll() is not None:
            member.process, member.start_at = None, now + RESTART_S
        if member.process is None and now >= member.start_at:
            with member.log.open("ab") as log:
                member.process = subprocess.Popen(
                    member.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=member.environment,
                    start_new_session=True, preexec_fn=die_with_parent,
                )  # fmt: skip
            self.entries.append(Entry(now, member.name, STARTED, {}))

    def _read(self, member: Member) -> None:
        with member.log.open("rb") as log:
            log.seek(member.read_bytes)
            lines = log.read().split(b"\n")[:-1]
        member.read_bytes += sum(len(line) + 1 for line in lines)
        now = time.monotonic()
        for line in lines:
            with suppress(ValueError, KeyError, TypeError):  # the last line of a killed process may be incomplete
                fields = json.loads(line)
                self.entries.append(Entry(now, member.name, str(fields["event"]), fields))


def children(pid: int) -> list[int]:
    """The processes that a process started."""
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]
    except OSError:
        return []
