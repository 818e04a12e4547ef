"""The exit codes of the program `worker`, and what each means."""

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of every verb."""

    OK = 0
    NOT_WELL = 1
    INCOMPLETE = 2
    QUARANTINED = 3
    USAGE = 64
    INTERRUPTED = 130


#: Said in deploy/COMMANDS.md too, which is made from this.
MEANINGS: dict[IntEnum, str] = {
    Exit.OK: "all is well",
    Exit.NOT_WELL: "the installation or a given name is wrong (the message says what to do), or a check found a fault",
    Exit.INCOMPLETE: "a study failed or still waits, or a service (database, broker, store) is away",
    Exit.QUARANTINED: "with `--strict`: a file could not be read",
    Exit.USAGE: "the command line is wrong",
    Exit.INTERRUPTED: "interrupted; what was taken in is kept, and the same command continues",
}
