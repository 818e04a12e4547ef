"""The exit codes of the program `worker`."""

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of every verb."""

    OK = 0
    NOT_WELL = 1  #: reconcile or check found something, or the program is misconfigured
    INCOMPLETE = 2  #: a study failed or still waits
    QUARANTINED = 3  #: with --strict: a file could not be read
    USAGE = 64  #: the command line itself is wrong
    INTERRUPTED = 130
