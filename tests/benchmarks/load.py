"""How busy the cores and a GPU were over a time, and which processes used the cores."""

import os
import pty
import shutil
import subprocess
import threading
import time
from pathlib import Path
from typing import Any, Self

import numpy as np

#: The command that asks the driver five times a second.
NVIDIA_SMI = (
    *("nvidia-smi", "--query-gpu=utilization.gpu,memory.used"),
    *("--format=csv,noheader,nounits", "-lms", "200"),
)

#: Role of a process of the service, by a word of its command line; the first match counts.
ROLES = ((b"worker.decoding.child", "decoder children"), (b"celery", "workers"), (b"redis-server", "Redis"))

TICKS = os.sysconf("SC_CLK_TCK")


class Gpu:
    """Samples of one GPU, read from a terminal of its own: to a pipe the program would write only full buffers."""

    def __init__(self) -> None:
        self.lines = list[str]()
        reading, writing = pty.openpty()
        self._process = subprocess.Popen(NVIDIA_SMI, stdout=writing, stderr=subprocess.DEVNULL)
        os.close(writing)
        self._thread = threading.Thread(target=self._read, args=[reading], daemon=True)
        self._thread.start()

    @classmethod
    def found(cls) -> Self | None:
        """Begin to sample, where there is a driver."""
        return cls() if shutil.which(NVIDIA_SMI[0]) else None

    def told(self) -> dict[str, float] | None:
        """Share of the time in which the GPU had work, and its memory; None without any sample. Ends the sampling."""
        self._process.terminate()
        self._process.wait()
        self._thread.join()
        samples = [line.split(",") for line in self.lines if line.replace(",", "").replace(" ", "").isdigit()]
        if not samples:
            return None
        busy, memory = np.asarray(samples, float).T
        return {
            "busy_share": round(float(busy.mean()) / 100, 3),
            "busy_share_p95": round(float(np.percentile(busy, 95)) / 100, 3),
            "memory_mib_most": float(memory.max()),
            "samples": len(samples),
        }

    def _read(self, terminal: int) -> None:
        try:
            with os.fdopen(terminal, encoding="ascii", errors="replace") as file:
                for line in file:
                    self.lines.append(line.strip())
        except OSError:  # EIO: the program has ended
            return


class Load:
    """Measures the machine and a service from now on."""

    def __init__(self, service: int) -> None:
        self.service, self.began = service, time.monotonic()
        self.stat, self.spent, self.waited = _stat(), _spent(service), _waited()
        self.gpu = Gpu.found()

    def told(self, studies: int) -> dict[str, Any]:
        """The measurements, per study where that says more."""
        gpu = self.gpu.told() if self.gpu else None
        busy, all_ = (now - before for now, before in zip(_stat(), self.stat, strict=True))
        core_s = dict[str, float]()
        for pid, (role, spent_s) in _spent(self.service).items():
            core_s[role] = core_s.get(role, 0.0) + spent_s - self.spent.get(pid, (role, 0.0))[1]
        core_s["intake"] = _waited() - self.waited
        return {
            "watched_s": round(
                time.monotonic() - self.began, 1
            ),  # the start of `worker screen`, or the queries, included
            "cores_busy_share": round(busy / all_, 3),
            "core_ms_a_study": {role: round(s / studies * 1e3, 1) for role, s in sorted(core_s.items())},
            "gpu": gpu,
        }


def _stat() -> tuple[int, int]:
    """Ticks of all cores since boot: those with work, and all."""
    fields = Path("/proc/stat").read_text(encoding="utf-8").splitlines()[0].split()[1:]
    ticks = [int(field) for field in fields[:8]]  # user nice system idle iowait irq softirq steal
    return sum(ticks) - ticks[3] - ticks[4], sum(ticks)


def _spent(root: int) -> dict[int, tuple[str, float]]:
    """CPU seconds of a process and its living descendants, ended children of each included, with their roles."""
    parents, spent = dict[int, int](), dict[int, float]()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        parents[int(stat.parent.name)] = int(fields[1])
        spent[int(stat.parent.name)] = sum(map(int, fields[11:15])) / TICKS
    return {pid: (_role(pid, root), spent[pid]) for pid in parents if _descends(pid, root, parents)}


def _descends(pid: int, root: int, parents: dict[int, int]) -> bool:
    while pid not in (root, 0):
        pid = parents.get(pid, 0)
    return pid == root


def _role(pid: int, root: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        words = b""
    return "watcher" if pid == root else next((role for word, role in ROLES if word in words), "others")


def _waited() -> float:
    """CPU seconds of our ended children: each `worker screen` that handed studies over, which takes them in."""
    return sum(os.times()[2:4])
