"""Ends a process when its parent dies."""

import ctypes
import signal
import sys

#: prctl option: the kernel sends this signal when the parent dies, however it dies (Linux, prctl(2)).
PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent dies. Only Linux offers this; elsewhere it does nothing."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
