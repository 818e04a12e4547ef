"""Whether a process runs, by its number, and where that number means the same process."""

import hashlib
import os
from functools import cache
from pathlib import Path

#: Random for each start of the kernel (random(4)).
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

#: The namespace of the numbers of this process (pid_namespaces(7)).
NAMESPACE = Path("/proc/self/ns/pid")


def is_running(pid: int) -> bool:
    """Whether a process of this machine, or of this container, still runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it belongs to another user
        return True
    return True


@cache
def pid_space() -> str:
    """Sixteen digits for this start of the machine and this container; empty where the system does not say.

    Processes with equal digits know each other's numbers.
    """
    try:
        named = f"{BOOT_ID.read_text(encoding='ascii')}{NAMESPACE.stat().st_ino}"
    except OSError:
        return ""
    return hashlib.sha256(named.encode()).hexdigest()[:16]
