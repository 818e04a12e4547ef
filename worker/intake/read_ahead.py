"""Reads files ahead on several threads, and gives them in groups that are booked in one transaction."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, wait

from schema.vocabulary import Priority
from worker.intake.reader import IntakeRequest, ReadFile

#: Most files of a group.
TOGETHER = 16

#: How long a file that was read waits for others. A STAT file does not wait.
LONGEST_WAIT_S = 0.25


class ReadAhead:
    """Reads as many files ahead of a group as there are readers. `submit` begins to read a file."""

    def __init__(
        self,
        submit: Callable[[IntakeRequest], "Future[ReadFile]"],
        readers: int,
        longest_wait_s: float = LONGEST_WAIT_S,
    ) -> None:
        self._submit, self._readers, self._longest_wait_s = submit, readers, longest_wait_s
        self.reading: deque[Future[ReadFile]] = deque()  #: begun, and not yet given in a group
        self._ready = 0  #: how many of them, from the first on, are read
        self._since_s = 0.0  #: when the first of them was read

    def groups(self, requests: Iterable[IntakeRequest]) -> Iterator[list[ReadFile]]:
        """The files in their order. An error of reading one is raised after the files before it were given."""
        for request in requests:
            self.reading.append(self._submit(request))
            if len(self.reading) - self._ready > self._readers:
                yield from self._next()
        while self._ready < len(self.reading):
            yield from self._next()
        yield from self._group()

    def _next(self) -> Iterator[list[ReadFile]]:
        """Wait for the next file. The files read before it are given first if it takes long or fails."""
        read = self.reading[self._ready]
        if self._ready:
            wait([read], timeout=max(0.0, self._since_s + self._longest_wait_s - time.monotonic()))
            if not read.done():
                yield from self._group()
        if read.exception() is not None:
            yield from self._group()
        is_stat = read.result().request.file.priority is Priority.STAT
        if self._ready == 0:
            self._since_s = time.monotonic()
        self._ready += 1
        is_late = time.monotonic() - self._since_s >= self._longest_wait_s
        if is_stat or is_late or self._ready == TOGETHER:
            yield from self._group()

    def _group(self) -> Iterator[list[ReadFile]]:
        group = [self.reading.popleft().result() for _ in range(self._ready)]
        self._ready = 0
        if group:
            yield group
