"""The faults of a chaos run: which, when (seeded), and how each is made and ended."""

import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.crew import NO_WORKERS, PAGE, RECEIVER, SENDER, WATCHER, Crew
from tests.chaos.surroundings import Surroundings

WORKER_KILLED, CHILD_KILLED, WATCHER_KILLED = "worker kill -9", "worker's child kill -9", "watcher kill -9"
RECEIVER_KILLED, SENDER_KILLED, PAGE_KILLED = "receiver kill -9", "sender kill -9", "page kill -9"
REDIS_RESTARTED, REDIS_FLUSHED, POSTGRES_RESTARTED = "Redis restart", "Redis FLUSHALL", "PostgreSQL restart"
POSTGRES_SILENT = "PostgreSQL silent"
NETWORK_CUT, NETWORK_SILENT = "network cut", "network silent"
DISK_FULL, CLOCK_JUMPED = "disk full", "clock jump"
ARCHIVE_AWAY, ARCHIVE_REFUSES = "archive away", "archive refuses"

#: Whom a fault kills; a worker where no other is named.
KILLS = {
    WORKER_KILLED: None,
    CHILD_KILLED: None,
    WATCHER_KILLED: WATCHER,
    RECEIVER_KILLED: RECEIVER,
    SENDER_KILLED: SENDER,
    PAGE_KILLED: PAGE,
}

#: Time between two tries to kill a process that is not there just now, and how often.
AGAIN_S, TRIES = 1.0, 60

#: How long a kill waits for the moment at which it does most harm, and how soon after its beginning it comes.
MOMENT_S, SOON_S = 5.0, 0.05

HOUR_S = 3600

#: Faults that may go on at one moment.
MOST_AT_ONCE = 16


@dataclass(frozen=True)
class Planned:
    """A fault to come."""

    kind: str
    at_s: float  #: from the first drop
    lasts_s: float  #: until what is away comes back


@dataclass
class Injected:
    """A fault that was injected."""

    kind: str
    member: str | None  #: who was killed
    began_s: float  #: on the steady clock
    ended_s: float  #: from then on everything was there again, or could be started
    queued: frozenset[str] = frozenset()  #: studies that the broker was to deliver


def plan(counts: dict[str, int], window_s: float, seed: int, longest_s: float) -> list[Planned]:
    """Spread faults over a time at random; the same seed gives the same plan."""
    dice = random.Random(seed)
    found = [
        Planned(kind, round(dice.uniform(0.1, 1.0) * window_s, 2), round(dice.uniform(0.4, 1.0) * longest_s, 2))
        for kind, count in counts.items()
        for _ in range(count)
    ]
    return sorted(found, key=lambda fault: fault.at_s)


@dataclass
class Saboteur:
    """Injects faults, each in a thread of its own; two of one server never at once."""

    crew: Crew
    around: Surroundings
    queued: Callable[[], frozenset[str]]
    moments: dict[str, threading.Event]  #: set while a process has something in hand that is not answered yet, by kind
    seed: int
    injected: list[Injected] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Start threads that stay."""
        self._hands = ThreadPoolExecutor(MOST_AT_ONCE, thread_name_prefix="saboteur")
        self._dice = random.Random(self.seed)
        self._locks: dict[str, threading.Lock] = {}
        self._is_ahead = False

    def run(self, faults: list[Planned], began_s: float) -> None:
        """Inject all of them at their times; returns when the last is undone. Raises what went wrong with one."""
        under_way = []
        for fault in faults:
            time.sleep(max(0.0, began_s + fault.at_s - time.monotonic()))
            lock = self._locks.setdefault(fault.kind.split()[0], threading.Lock())
            under_way.append(self._hands.submit(self._inject, fault, lock))
        for future in under_way:
            future.result()

    def close(self) -> None:
        """End the threads: a Redis dies with the thread that started it."""
        self._hands.shutdown()

    def _inject(self, fault: Planned, lock: threading.Lock) -> None:
        with lock:
            self._do(fault)

    def _do(self, fault: Planned) -> None:
        member = None
        queued = self.queued() if fault.kind in (REDIS_RESTARTED, REDIS_FLUSHED) else frozenset()
        began = time.monotonic()
        if fault.kind in KILLS:
            member = self._kill(fault.kind)
            began = time.monotonic()
        else:
            do, undo = self._acts[fault.kind]
            do()
            if undo is not None:
                time.sleep(fault.lasts_s)
                undo()
        self.injected.append(Injected(fault.kind, member, began, time.monotonic(), queued))

    @property
    def _acts(self) -> dict[str, tuple[Callable[[], Any], Callable[[], Any] | None]]:
        around = self.around
        return {
            REDIS_RESTARTED: (around.redis.kill, around.redis.start),
            REDIS_FLUSHED: (around.redis.flush, None),
            POSTGRES_RESTARTED: (around.postgres.kill, around.postgres.start),
            POSTGRES_SILENT: (around.postgres.fall_silent, around.postgres.go_on),
            NETWORK_CUT: (around.proxy.cut, around.proxy.mend),
            NETWORK_SILENT: (around.proxy.fall_silent, around.proxy.mend),
            DISK_FULL: (around.disk.fill, around.disk.free),
            CLOCK_JUMPED: (self._jump, None),
            ARCHIVE_AWAY: (around.archive.stop, around.archive.start),
            ARCHIVE_REFUSES: (around.archive.refuse, around.archive.accept),
        }

    def _kill(self, kind: str) -> str:
        """Kill one of those whom the kind means, as soon as one is there."""
        if kind in self.moments and self.moments[kind].wait(MOMENT_S):
            time.sleep(self._dice.uniform(0.0, SOON_S))
        named = KILLS[kind]
        names = [named] if named else sorted(self.crew.members.keys() - NO_WORKERS)
        for _ in range(TRIES):
            name = self._dice.choice(names)
            if self.crew.kill(name, only_child=kind == CHILD_KILLED):
                return name
            time.sleep(AGAIN_S)
        raise AssertionError(f"nobody to kill for {kind!r}")

    def _jump(self) -> None:
        """An hour ahead, and the next time back."""
        self._is_ahead = not self._is_ahead
        self.around.clock.move(HOUR_S if self._is_ahead else 0)
