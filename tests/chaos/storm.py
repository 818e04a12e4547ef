"""One chaos run: studies arrive while every part of the installation is killed, disconnected, emptied or filled.

python -m tests.chaos.storm [--studies N] [--seed N] [--write]

Two of three studies come through the inbox, the third by C-STORE. Receiver, sender and page are killed while an
object, a report or a verdict is under way, where one is. There is no help but the restart that systemd gives. Where the
right to mount is missing, the store is taken away in place of filled.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from threading import Thread

import click
from sqlalchemy import text

from schema.database import Database
from schema.vocabulary import Role
from tests.chaos import faults, outside, reader
from tests.chaos.account import Account, show, take
from tests.chaos.crew import Crew
from tests.chaos.drops import STAT_FOLDER, Drop, drops, write
from tests.chaos.members import installation, members, with_broker
from tests.chaos.modality import Modality
from tests.chaos.servers import WallClock
from tests.chaos.surroundings import Surroundings, surroundings
from tests.reading_room import PASSWORD_HASH
from worker.errors import DatabaseUnavailable
from worker.ledger.dispatch import undelivered
from worker.ledger.reading_room import accounts
from worker.ledger.transactions import reading

RESULT = Path(__file__).parents[1] / "benchmarks" / "results" / "chaos.json"

#: All faults, and how often.
FAULTS = {
    faults.WORKER_KILLED: 14,
    faults.CHILD_KILLED: 6,
    faults.WATCHER_KILLED: 5,
    faults.RECEIVER_KILLED: 6,
    faults.SENDER_KILLED: 4,
    faults.PAGE_KILLED: 4,
    faults.REDIS_RESTARTED: 2,
    faults.REDIS_FLUSHED: 2,
    faults.POSTGRES_RESTARTED: 2,
    faults.POSTGRES_SILENT: 3,
    faults.NETWORK_CUT: 2,
    faults.NETWORK_SILENT: 2,
    faults.DISK_FULL: 1,
    faults.CLOCK_JUMPED: 2,
    faults.ARCHIVE_AWAY: 2,
    faults.ARCHIVE_REFUSES: 2,
}

#: Time between two looks at the database.
LOOK_S = 0.5

#: Difference to real time when an hour has passed, whether or not the clock had jumped by an hour before.
LATER_S = 2 * faults.HOUR_S


@dataclass(frozen=True)
class Storm:
    """The parameters of a run."""

    studies: int = 1000
    seed: int = 1
    window_s: float = 240.0  #: files are dropped, and faults happen, over this time
    longest_fault_s: float = 8.0
    patience_s: float = 1800.0  #: for the start, and after the window
    workers: int = 3
    counts: dict[str, int] = field(default_factory=lambda: dict(FAULTS))
    settings: dict[str, str] = field(default_factory=dict)
    disk_mib: int = 1024
    is_an_hour_later: bool = False  #: when all studies have ended, so that no report waits for its next attempt


def run(storm: Storm) -> Account:
    """Let studies arrive, be read and be reported while the faults are injected; wait, and count the results."""
    folder = Path(tempfile.mkdtemp(prefix="chaos"))
    try:
        with surroundings(folder, storm.disk_mib) as around:
            account = _run(storm, folder, around)
            if not account.is_whole:
                _keep(folder)
            return account
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(storm: Storm, folder: Path, around: Surroundings) -> Account:
    inbox = folder / "inbox"
    (inbox / STAT_FOLDER).mkdir(parents=True)
    site = installation(folder / "home", around.postgres, around.disk, around.archive, storm.settings)
    site.run("db", "upgrade")
    with closing(Database(around.postgres.url)) as database:
        accounts.add(database, reader.NAME, Role.READER, PASSWORD_HASH, "test", datetime.now(UTC))
        ports = around.redis.port, around.proxy.port
        crew = Crew(members(site, inbox, folder, storm.workers, ports, around.clock))
        modality = Modality(int(site.settings["SCREENING_RECEIVE_PORT"]))
        radiologist = reader.Reader(int(site.settings["SCREENING_WEB_PORT"]), storm.seed)
        moments = {
            faults.RECEIVER_KILLED: modality.is_sending,
            faults.SENDER_KILLED: around.archive.is_answering,
            faults.PAGE_KILLED: radiologist.is_giving,
        }
        saboteur = faults.Saboteur(crew, around, lambda: queued(database), moments, storm.seed)
        files = list(drops(storm.studies))
        planned = faults.plan(_possible(storm.counts, around.clock), storm.window_s, storm.seed, storm.longest_fault_s)
        try:
            crew.start(storm.patience_s)
            began = time.monotonic()
            radiologist.start()
            dropping = Thread(target=drop_all, args=(files, inbox, modality, storm.window_s), name="dropping")
            dropping.start()
            saboteur.run(planned, began)
            dropping.join()
            studies = list(dict.fromkeys(file.study_uid for file in files if file.study_uid))
            expected = Expected(len(studies), sum(file.study_uid is None for file in files), storm.patience_s)
            if wait_for(expected, database, inbox, modality) and storm.is_an_hour_later:
                around.clock.move(LATER_S)
            wait_for_reports(database, storm.patience_s)
        finally:
            radiologist.stop()
            modality.close()
            crew.stop()
            saboteur.close()
        seconds = time.monotonic() - began
        environment = with_broker(site, around.redis.port)
        reconciled = subprocess.run(site.command("reconcile"), env=environment, capture_output=True, check=False)
        seen = outside.take(database, crew.entries, modality, around.archive, radiologist)
        return take(
            database, studies, crew.entries, saboteur.injected, seen, reconciles=reconciled.returncode == 0,
            seconds=seconds,
        )  # fmt: skip


def drop_all(files: list[Drop], inbox: Path, modality: Modality, window_s: float) -> None:
    """Write or send the files at an even pace."""
    began = time.monotonic()
    for number, file in enumerate(files):
        time.sleep(max(0.0, began + number * window_s / len(files) - time.monotonic()))
        if file.is_sent:
            modality.send(file)
        else:
            write(file, inbox)


@dataclass(frozen=True)
class Expected:
    """What shall have come to its end, and how long that may take."""

    studies: int
    quarantined: int
    patience_s: float


def wait_for(expected: Expected, database: Database, inbox: Path, modality: Modality) -> bool:
    """Return True when every file is taken in and every study has ended; False after the longest wait."""
    statement = text(
        "SELECT (SELECT COUNT(*) FROM study WHERE state IN ('screened', 'failed')),"
        " (SELECT COUNT(*) FROM arrival WHERE state = 'quarantined')"
    )

    def is_over() -> bool:
        if not modality.is_done or any(inbox.rglob("*.*")):
            return False
        with reading(database) as connection:
            ended, quarantined = connection.execute(statement).one()
        return bool(ended == expected.studies and quarantined >= expected.quarantined)

    return _becomes(is_over, expected.patience_s)


def wait_for_reports(database: Database, patience_s: float) -> bool:
    """Return True when no report is due any more; False after the longest wait."""

    def is_over() -> bool:
        with reading(database) as connection:
            return undelivered.oldest_due(connection) is None

    return _becomes(is_over, patience_s)


def _becomes(is_over: Callable[[], bool], patience_s: float) -> bool:
    """Whether it becomes true in time; a database that is away says nothing."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        with suppress(DatabaseUnavailable):
            if is_over():
                return True
        time.sleep(LOOK_S)
    return False


def queued(database: Database) -> frozenset[str]:
    """The studies whose messages the broker should hold now; none while the database is away."""
    with suppress(DatabaseUnavailable), reading(database) as connection:
        return frozenset(connection.execute(text("SELECT study_uid FROM study WHERE state = 'queued'")).scalars())
    return frozenset()


def _possible(counts: dict[str, int], clock: WallClock) -> dict[str, int]:
    """Without libfaketime no clock can be moved."""
    return {kind: n for kind, n in counts.items() if kind != faults.CLOCK_JUMPED or clock.library is not None}


def _keep(folder: Path) -> None:
    """Leave the logs of a failed run where a person can read them."""
    kept = Path(tempfile.mkdtemp(prefix="chaos_failed"))
    for log in folder.glob("*.log"):
        shutil.copy(log, kept)
    sys.stderr.write(f"the logs are in {kept}\n")


@click.command()
@click.option("--studies", default=1000, show_default=True, type=click.IntRange(min=1))
@click.option("--seed", default=1, show_default=True, type=int)
@click.option("--minutes", default=4.0, show_default=True, type=float, help="Time over which studies are dropped.")
@click.option("--write", "is_written", is_flag=True, help=f"Keep the account as {RESULT.name}.")
def main(studies: int, seed: int, minutes: float, is_written: bool) -> None:
    """Run it, print its table, exit 1 when anything was lost, doubled or failed."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that everything is stopped and unmounted
    storm = Storm(studies=studies, seed=seed, window_s=minutes * 60)
    account = run(storm)
    show(account)
    if is_written:
        facts = {"seed": seed, "window_s": storm.window_s, "workers": storm.workers, "cores": os.cpu_count()}
        RESULT.write_text(json.dumps({**account.to_json(), **facts}, indent=1) + "\n", encoding="utf-8")
    sys.exit(not account.is_whole)


if __name__ == "__main__":
    main()
