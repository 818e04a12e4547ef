"""What one watcher's intake costs a file, in each mode of the inbox, without queue and workers:

    python -m tests.benchmarks.taking_in --files 60 --rounds 3 [--write]

Uncompressed radiographs of 15.5 MB on one file system, of a study each, on SQLite. The page cache is warm, the files
are on the disk already (`sync`), the store's folders exist. The modes are measured in turns. Files a second and
core are by the CPU time of the whole process, threads included.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs
import click

from schema.setting_values import InboxMode, StoreLink
from tests.benchmarks.machine import Watch, machine, tell
from tests.benchmarks.service import make_store
from tests.benchmarks.studies import write_studies
from worker.intake.ingest import Intake
from worker.intake.watcher import Watcher
from worker.ledger.clocks import now
from worker.ledger.connect import open_database
from worker.ledger.screening.outbox import Backlog
from worker.settings import Settings
from worker.store import open_store

RESULT = Path(__file__).parent / "results" / "taking_in.json"

LIBRARIES = ("imagecodecs", "pydicom", "sqlalchemy")

#: What is compared: the settings of each way.
WAYS: dict[str, dict[str, Any]] = {
    "move": {"inbox_mode": InboxMode.MOVE},
    "move, linking off": {"inbox_mode": InboxMode.MOVE, "store_link": StoreLink.OFF},
    "copy": {"inbox_mode": InboxMode.COPY},
    "leave": {"inbox_mode": InboxMode.LEAVE},
}


@contextmanager
def watching(folder: Path, **settings: Any) -> Iterator[Watcher]:
    """A watcher over `folder/inbox`, whose messages go nowhere."""
    inbox = folder / "inbox"
    inbox.mkdir()
    in_force = attrs.evolve(Settings(home=folder / "home"), file_quiet_s=1e-3, **settings)
    database = open_database(in_force)
    make_store(in_force.home)
    intake = Intake(in_force, database, open_store(in_force))
    try:
        yield Watcher(intake, inbox, lambda _: None, lambda: Backlog({}), now)
    finally:
        database.close()


def one_way(folder: Path, files: int, first: int, **settings: Any) -> dict[str, float]:
    """Seconds of CPU and wall a file."""
    with tempfile.TemporaryDirectory(dir=folder) as name, watching(Path(name), **settings) as watcher:
        write_studies(watcher.folder, files + 1, first=first)
        for each in sorted(watcher.folder.iterdir())[1:]:
            each.rename(each.with_suffix(".part"))
        watcher.scan()
        time.sleep(0.01)
        watcher.scan()  # the first file warms statements and tables
        for each in watcher.folder.glob("*.part"):
            each.rename(each.with_suffix(".dcm"))
        watcher.scan()
        os.sync()
        wall, cpu = time.perf_counter(), time.process_time()
        while not watcher.scan():
            pass
        spent = {"cpu_s": (time.process_time() - cpu) / files, "wall_s": (time.perf_counter() - wall) / files}
        left = sum(1 for _ in watcher.folder.iterdir())
        assert left == (0 if settings["inbox_mode"] is InboxMode.MOVE else files + 1), f"{left} files are left"
        return spent


@click.command()
@click.option("--files", default=60, show_default=True, type=click.IntRange(min=1), help="Files of a round.")
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(min=1), help="Turns of all ways.")
@click.option("--folder", type=click.Path(file_okay=False, path_type=Path), help="Where inbox and store are made.")
@click.option("--write", is_flag=True, help="Keep the result in tests/benchmarks/results/taking_in.json.")
def main(files: int, rounds: int, folder: Path | None, write: bool) -> None:
    """Measure, print."""
    with tempfile.TemporaryDirectory(prefix="screening-bench-", dir=folder) as name:
        watch = Watch()
        turns = [
            {way: one_way(Path(name), files, round_ * 1000, **settings) for way, settings in WAYS.items()}
            for round_ in range(rounds)
        ]
        facts = machine(watch.share_taken_by_others(), LIBRARIES)
    found: dict[str, Any] = {way: _told([turn[way] for turn in turns]) for way in WAYS}
    found |= {"files": files, "rounds": rounds, "machine": facts, "measured_on": datetime.now(UTC).date().isoformat()}
    tell(found, RESULT if write else None)


def _told(rounds: list[dict[str, float]]) -> dict[str, Any]:
    cpu_s = [each["cpu_s"] for each in rounds]
    return {
        "files_a_second_and_core": round(1 / statistics.median(cpu_s), 1),
        "cpu_ms": round(statistics.median(cpu_s) * 1e3, 2),
        "wall_ms": round(statistics.median(each["wall_s"] for each in rounds) * 1e3, 2),
        "cpu_ms_of_rounds": [round(each * 1e3, 2) for each in cpu_s],
    }


if __name__ == "__main__":
    main()
