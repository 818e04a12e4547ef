"""The time now, and how far the clocks of the machines of one installation may differ."""

from datetime import UTC, datetime

#: Clocks of two machines may differ by this much. A moment further in the future than any planned one was written
#: before a clock was set back.
CLOCKS_DIFFER_S = 300.0


def now() -> datetime:
    """The present time, in UTC."""
    return datetime.now(UTC)
