"""Things kept in memory within bounds, the least recently used going first; safe to share between threads."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

V = TypeVar("V")


class Bounded(Generic[V]):
    """A cache that holds at most so much, by the size that `weigh` gives each value."""

    def __init__(self, most: int, weigh: Callable[[V], int] = lambda _: 1) -> None:
        self._most, self._weigh, self._weight = most, weigh, 0
        self._kept: OrderedDict[Hashable, V] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> V | None:
        """The value, which thereby becomes the most recently used."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def put(self, key: Hashable, value: V) -> V:
        """Keep a value; one that is heavier than the bound is returned and not kept."""
        with self._lock:
            self._drop(key)
            if self._weigh(value) <= self._most:
                self._kept[key] = value
                self._weight += self._weigh(value)
            while self._weight > self._most:
                self._drop(next(iter(self._kept)))
        return value

    def add(self, key: Hashable, value: V) -> bool:
        """Keep a value under a new key; False when the key is there already."""
        with self._lock:
            is_new = key not in self._kept
        self.put(key, value)
        return is_new

    @property
    def weight(self) -> int:
        """How much is kept now."""
        return self._weight

    def _drop(self, key: Hashable) -> None:
        if key in self._kept:
            self._weight -= self._weigh(self._kept.pop(key))
