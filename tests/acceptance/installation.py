"""The program as its users run it: a real process, its own state folder, the shipped model."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from worker.runtime.children import child
from worker.runtime.settings_file import NO_FILE

#: Settings of a watcher with short waiting times.
QUICK = {"SCREENING_FILE_QUIET_S": "0.5", "SCREENING_STUDY_QUIET_S": "0.5", "SCREENING_SCAN_INTERVAL_S": "0.2"}

#: A busy machine takes so many times as long as a quiet one.
BUSY = 4.0

SAMPLES = Path(__file__).parents[1] / "data" / "inbox"


@dataclass(frozen=True)
class Installation:
    """One state folder, and the program `worker` on it. `settings` are further `SCREENING_*` variables."""

    home: Path
    settings: dict[str, str] = field(default_factory=dict)

    def run(self, *words: str | Path, code: int = 0, patience_s: float = 500) -> str:
        """Run `worker` with these words; its standard output. Fails unless it exits with `code`."""
        done = subprocess.run(
            self.command(*words), capture_output=True, text=True, env=self.environment(), timeout=patience_s
        )
        assert done.returncode == code, f"exit {done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout

    def json(self, *words: str | Path, code: int = 0) -> Any:
        """The JSON that `worker ... --json` prints."""
        return json.loads(self.run(*words, "--json", code=code))

    def command(self, *words: str | Path) -> list[str]:
        """The command line."""
        return [sys.executable, "-m", "worker", *map(str, words)]

    def environment(self) -> dict[str, str]:
        """The environment without SCREENING_* variables except those of this installation."""
        plain = {name: value for name, value in os.environ.items() if not name.startswith("SCREENING_")}
        return {**plain, "SCREENING_HOME": str(self.home), "SCREENING_SETTINGS": NO_FILE, **self.settings}


def wait_until(condition: Callable[[], bool], seconds: float) -> None:
    """Return as soon as `condition` holds; fail when it does not within `seconds` of a quiet machine."""
    deadline = monotonic() + BUSY * seconds
    while not condition():
        assert monotonic() < deadline, "the condition did not become true in time"
        sleep(0.02)


@contextmanager
def production(
    site: Installation, inbox: Path, logs: Path, processes: int = 1
) -> Iterator[dict[str, "subprocess.Popen[bytes]"]]:
    """A watcher on `inbox` and a Celery worker as separate processes, by name; their output goes to `logs`."""
    commands = {"watch": site.command("watch", inbox), "celery": celery(processes)}
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(child(command, logs / f"{name}.log", 30, site.environment()))
            for name, command in commands.items()
        }


def celery(processes: int = 1) -> list[str]:
    """The command line of a queue worker."""
    command = [sys.executable, "-m", "celery", "-A", "worker.app", "worker", "--concurrency", str(processes)]
    return [*command, "--without-gossip", "--without-mingle", "--without-heartbeat"]


def events(log: Path) -> list[dict[str, Any]]:
    """The events of a log, without an incomplete last line."""
    lines = log.read_text(encoding="utf-8").split("\n")[:-1] if log.exists() else []
    return [json.loads(line) for line in lines if line.startswith("{")]
