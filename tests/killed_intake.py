"""Takes the file of an inbox in, in a process of its own that is killed after one step:

    python -m tests.killed_intake STEP FOLDER [CUT]

FOLDER/disk has an `inbox` with one settled file, and gets a `store`; FOLDER/home has the database. The program CUT is
called with FOLDER just before the process ends, to keep what is on the disk.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from worker.intake.held_file import AtStep, Step, no_step
from worker.intake.ingest import Intake
from worker.intake.watcher import Watcher
from worker.ledger.connect import open_database
from worker.ledger.screening.outbox import Backlog
from worker.settings import Settings
from worker.store.folder import FolderStore


def settings_of(folder: Path, home: Path | None = None) -> Settings:
    """The installation of a step's folder."""
    return Settings(home=home or folder / "home", store=str(folder / "disk" / "store"), min_free_mib=1)


def take_in(folder: Path, at_step: AtStep = no_step, home: Path | None = None) -> None:
    """What a watcher does with a settled inbox: it is listed, and after the quiet time taken in."""
    settings = settings_of(folder, home)
    database = open_database(settings)
    moments = [datetime(2026, 3, 2, 8, tzinfo=UTC)]

    def clock() -> datetime:
        return moments[0]

    intake = Intake(settings, database, FolderStore(Path(settings.store)), at_step=at_step)
    watcher = Watcher(
        intake, folder / "disk" / "inbox", lambda _: None, lambda: Backlog({}), clock, lambda: clock().timestamp()
    )
    for _ in range(2):
        watcher.scan()
        moments[0] += timedelta(seconds=20)
    database.close()


def killed_after(step: Step, folder: Path, cut: str | None) -> Callable[[Step], None]:
    """Ends this process as the kernel does, after one step."""

    def at_step(done: Step) -> None:
        if done is step:
            if cut is not None:
                subprocess.run([cut, str(folder)], check=True)
            os.kill(os.getpid(), signal.SIGKILL)

    return at_step


if __name__ == "__main__":
    place = Path(sys.argv[2])
    take_in(place, killed_after(Step(sys.argv[1]), place, sys.argv[3] if len(sys.argv) > 3 else None))
