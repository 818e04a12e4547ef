"""Ties a process to the life of the one that started it."""

import ctypes
import signal
import sys

#: prctl option: the kernel sends this signal when the parent dies, however it dies (Linux, prctl(2)).
PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent dies; elsewhere than on Linux there is no such door."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
