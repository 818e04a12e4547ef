"""Ends a process of the worker pool whose inference device failed. The pool starts a new one in its place.

A CUDA context that has failed once fails at every later call, and ends with its process only.
"""

import os
import threading

from billiard.pool import EX_RECYCLE  # the pool replaces such a process without complaint

#: The result of the current message reaches the pool within this time. A message that comes meanwhile is not worked on;
#: one that is cut off is delivered again.
DELAY_S = 1.0


class ProcessEnd:
    """The end of this process, once it is decided."""

    def __init__(self, delay_s: float = DELAY_S) -> None:
        self.delay_s = delay_s
        self.is_near = False

    def begin(self) -> None:
        """End the process shortly; at the first call only."""
        if not self.is_near:
            self.is_near = True
            timer = threading.Timer(self.delay_s, os._exit, [EX_RECYCLE])
            timer.daemon = True
            timer.start()
