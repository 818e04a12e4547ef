"""A file that was dropped: when it changed, and how it is opened. Knows nothing of its content."""

import os
from pathlib import Path

from worker.errors import Unreadable

#: The latest time in 64 bits of nanoseconds: 11 April 2262.
LATEST_NS = 2**63 - 1


def modified_ns(status: os.stat_result) -> int:
    """When a file was last modified, limited to the 64 bits of databases: a wrong clock may write the year 2400."""
    return max(-LATEST_NS, min(status.st_mtime_ns, LATEST_NS))


def changed_ns(path: Path) -> int:
    """When anything of a file last changed; raises Unreadable, FileNotFoundError unless it is a link."""
    try:
        return path.stat().st_ctime_ns
    except FileNotFoundError:
        return path.lstat().st_ctime_ns
    except OSError as error:
        raise Unreadable(f"the file cannot be read ({error.strerror}): check its permissions") from error


def open_at_once(path: str, flags: int) -> int:
    """Open without waiting for a writer: the path may have become a FIFO."""
    return os.open(path, flags | os.O_NONBLOCK)
