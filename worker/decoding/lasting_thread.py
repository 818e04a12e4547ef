"""A thread that lives as long as its process, to start children on.

The kernel kills a child that asked to die with its parent when the *thread* that started it ends (prctl(2),
PR_SET_PDEATHSIG). The threads that answer requests of the page end after ten idle seconds.
"""

import os
import threading
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

_lock = threading.Lock()
_thread_of: dict[int, Executor] = {}  #: by process: a fork has none of its parent's threads


def on_lasting_thread(start: Callable[[], T]) -> T:
    """The result of `start`, which runs on the main thread or on one that stays."""
    if threading.current_thread() is threading.main_thread():
        return start()
    with _lock:
        thread = _thread_of.get(os.getpid())
        if thread is None:
            thread = _thread_of[os.getpid()] = ThreadPoolExecutor(1, thread_name_prefix="starts-children")
    return thread.submit(start).result()
