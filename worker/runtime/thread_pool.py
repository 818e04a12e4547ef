"""The same work for several items, one after the other or on the threads of a pool."""

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Executor, wait
from typing import TypeVar

T = TypeVar("T")


def for_each(work: Callable[[T], None], items: Sequence[T], thread_pool: Executor | None) -> None:
    """Do the work for each item. When one raises, those that run end first, the others are not begun."""
    if thread_pool is None:
        for item in items:
            work(item)
        return
    begun = [thread_pool.submit(work, item) for item in items]
    try:
        wait(begun, return_when=FIRST_EXCEPTION)
    finally:
        for each in begun:
            each.cancel()
    wait(begun)
    for each in begun:
        each.result()  # the first that failed comes before all that were cancelled
