"""The exit codes of the program `trainer`, and what each means."""

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of every verb."""

    OK = 0
    REFUSED = 1
    USAGE = 64  #: as of the program `worker`; click's own would be 2
    INTERRUPTED = 130


#: Said in deploy/COMMANDS.md too, which is made from this.
MEANINGS: dict[IntEnum, str] = {
    Exit.OK: "all is well",
    Exit.REFUSED: "data, a setting, a model or a file is refused, and the message says what to do",
    Exit.USAGE: "the command line is wrong",
    Exit.INTERRUPTED: "interrupted; the same command continues",
}
