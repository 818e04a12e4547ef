"""Watches held files while their group is being booked: when a writer waits for one, the store gets a copy in time.

The system lets a writer in after 45 s, also if booking takes longer.
"""

import logging
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from worker.intake.held_file import HeldFile
from worker.runtime.boundary import result_or_error
from worker.runtime.error_place import place_of

log = logging.getLogger(__name__)

#: Time between two looks. The system lets a writer wait for 45 s.
LOOK_S = 1.0


class WritersWatch:
    """Looks after held files until each is let go."""

    def __init__(self, held: Iterable[HeldFile]) -> None:
        self._held = {id(each): each for each in held}
        self._lock = threading.Lock()

    def let_go(self, held: HeldFile | None) -> None:
        """Stop watching a file, which the caller then removes or abandons."""
        with self._lock:
            self._held.pop(id(held), None)

    def look_until(self, stop: threading.Event) -> None:
        """Look at every file each LOOK_S. An error with one file is logged, and the others are still watched."""
        while self._held and not stop.wait(LOOK_S):
            for key in list(self._held):
                with self._lock:
                    if key in self._held:
                        self._look_at(key)

    def _look_at(self, key: int) -> None:
        is_apart = result_or_error(self._held[key].is_apart_from_writers)
        if isinstance(is_apart, Exception):
            log.error("file_not_parted", extra={"kind": place_of(is_apart)})
        elif is_apart:
            del self._held[key]


@contextmanager
def watching_writers(held: Iterable[HeldFile | None]) -> Iterator[WritersWatch]:
    """Look after the files while the block runs; None is a file that the system does not hold."""
    watch, stop = WritersWatch(each for each in held if each is not None), threading.Event()
    thread = threading.Thread(target=watch.look_until, args=(stop,), name="writers", daemon=True)
    thread.start()
    try:
        yield watch
    finally:
        stop.set()
        thread.join()
