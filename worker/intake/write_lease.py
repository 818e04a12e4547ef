"""Read leases (fcntl(2), F_SETLEASE): the kernel refuses one on a file that a process has open for writing.

So they tell whether a file is being written, for files of this user (with CAP_LEASE for all), but not on shares.
"""

import fcntl
import os
import signal
import stat
from errno import EAGAIN, ENOSYS
from functools import lru_cache
from pathlib import Path

#: File systems that may refuse a lease for other reasons, such as a missing delegation from the server.
SHARES = ("nfs", "cifs", "smb", "fuse", "9p", "ceph", "afs", "lustre", "gfs", "ocfs")

#: The signal when a writer breaks our lease: this one is ignored by default, the system's own choice ends the process.
BREAK_SIGNAL = signal.SIGURG


def is_open_for_writing(path: str) -> bool:
    """Whether a process has the file open or mapped for writing. False also where the system does not say."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116
            return False
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False  # the reader reports why it cannot be read
    try:
        return is_written(descriptor)
    finally:
        os.close(descriptor)


def is_written(descriptor: int) -> bool:
    """`is_open_for_writing` of a file that is open for reading."""
    refused = _refusal(descriptor)
    if refused is None:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return refused == EAGAIN and not _is_share(os.fstat(descriptor).st_dev)


def take_lease(descriptor: int) -> bool:
    """Keep writers out of a file that is open for reading, until it is closed. False where the system refuses that.

    A process that opens the file for writing waits until it is closed, or for /proc/sys/fs/lease-break-time (45 s).
    """
    return _refusal(descriptor) is None


def holds_lease(descriptor: int) -> bool:
    """Whether no process has tried to open the file for writing since `take_lease`."""
    return fcntl.fcntl(descriptor, fcntl.F_GETLEASE) == fcntl.F_RDLCK


def _refusal(descriptor: int) -> int | None:
    """Take a read lease; the error number of the refusal, None when it is granted."""
    if not hasattr(fcntl, "F_SETLEASE"):
        return ENOSYS
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, BREAK_SIGNAL)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        return error.errno
    return None


@lru_cache(maxsize=64)
def _is_share(device: int) -> bool:
    """Whether a device is a file system of another machine (proc(5), mountinfo)."""
    name = f"{os.major(device)}:{os.minor(device)}"
    try:
        lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    kinds = (line.partition(" - ")[2].split(" ")[0] for line in lines if line.split(" ")[2] == name)
    return any(kind.startswith(SHARES) for kind in kinds)
