"""The statuses of C-STORE (PS3.4 B.2.3, PS3.7 C) that the receiver answers."""

from enum import IntEnum


class Status(IntEnum):
    """An answer to C-STORE."""

    SUCCESS = 0x0000  #: kept
    OUT_OF_RESOURCES = 0xA700  #: disk, quota, store, database or spool: send it again later
    DOES_NOT_MATCH = 0xA900  #: SOP Class or Instance of the data set is not that of the command
    CANNOT_UNDERSTAND = 0xC000  #: not to be parsed, and not kept

    @property
    def label(self) -> str:
        """As people write it: four hexadecimal digits."""
        return f"{self:04X}"
