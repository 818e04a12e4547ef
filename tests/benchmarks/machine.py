"""What a reader needs to compare numbers of two machines; nothing that names one."""

import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any


class Watch:
    """Measures how busy other processes kept the cores since it was started."""

    def __init__(self) -> None:
        self.began, self.others_s = time.monotonic(), _others_s()

    def share_taken_by_others(self) -> float:
        """The share of the cores' time that went to other processes or to the hypervisor meanwhile."""
        return (_others_s() - self.others_s) / (time.monotonic() - self.began) / cores()


def machine(others_share: float, libraries: Sequence[str]) -> dict[str, Any]:
    """Facts of the machine, and the versions of the `libraries` that change the numbers."""
    return {
        "cpu": _cpu_name(),
        "cores": cores(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "share_taken_by_others": round(others_share, 3),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{name: version(name) for name in libraries if _is_installed(name)},
    }


def warm_memory(folder: Path) -> None:
    """Fill the page cache, as it is on a machine that has been up for a day: reads a file of holes, and removes it.

    A virtual machine's first touch of a page costs ten times what the next ones do, and would be counted as writing.
    """
    holes = folder / "holes"
    with holes.open("wb") as file:
        file.truncate(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES"))
    with holes.open("rb", buffering=0) as file:
        while file.read(1 << 24):
            continue
    holes.unlink()


def tell(found: dict[str, Any], result: Path | None) -> None:
    """Print what was measured, as JSON, and write it to the file if one is given."""
    text = json.dumps(found, indent=1) + "\n"
    if result is not None:
        result.write_text(text, encoding="utf-8")
    sys.stdout.write(text)


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _others_s() -> float:
    """CPU time since boot of all that is not this process or one of its ended children; 0 if unknown."""
    try:
        user, nice, system, _, _, *rest = Path("/proc/stat").read_text(encoding="utf-8").splitlines()[0].split()[1:]
    except (OSError, ValueError):
        return 0.0
    all_s = sum(map(int, (user, nice, system, *rest[:3]))) / os.sysconf("SC_CLK_TCK")
    return all_s - sum(os.times()[:4])


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


def _is_installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True
