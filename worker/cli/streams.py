"""Standard input, output and error as a shell, cron or a closed terminal leaves them. Knows nothing that is printed."""

import errno
import os
import sys
from contextlib import suppress

#: What is raised where output goes to a full disk, a terminal that is gone, or a reader that has ended.
_FAULTS = frozenset({errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF})


def make_usable() -> None:
    """Open what is closed on the null device, and print as codes what the locale's encoding lacks.

    Else the next file that is opened, such as one of the store, would get the number of the closed stream, and the
    warnings that libraries print would be written into it.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w" if number else "r", closefd=False))
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            with suppress(OSError):  # a device that says that it can seek, and cannot
                reconfigure(errors="backslashreplace")


def is_fault_of_output(error: OSError) -> bool:
    """Whether output could not be written; an error about a file names that."""
    return error.errno in _FAULTS and error.filename is None


def give_up_output() -> None:
    """Write nothing more to standard output: what is left in its buffer would fail again when the program ends."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)
