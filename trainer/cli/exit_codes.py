"""The exit codes of the program `trainer`."""

from enum import IntEnum


class Exit(IntEnum):
    """What the program answers to its caller."""

    OK = 0
    REFUSED = 1  #: wrong data, setting or model; the message names the remedy
    USAGE = 2  #: the command line itself is wrong (click's own)
    INTERRUPTED = 130  #: stopped by a person; the same command goes on
