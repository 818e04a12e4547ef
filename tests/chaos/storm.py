"""One chaos run: studies arrive while every part of the installation is killed, disconnected, emptied or filled.

python -m tests.chaos.storm [--studies N] [--seed N] [--write]
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread

import click
from sqlalchemy import text

from schema.database import Database
from tests.acceptance.installation import Installation, celery
from tests.chaos import faults
from tests.chaos.account import Account, show, take
from tests.chaos.crew import WATCHER, Crew, Member
from tests.chaos.drops import Drop, drops, write
from tests.chaos.proxy import Proxy
from tests.chaos.servers import LOOPBACK, START_S, Disk, PostgresServer, RedisServer, WallClock
from worker.errors import DatabaseUnavailable
from worker.ledger.transactions import reading

RESULT = Path(__file__).parents[1] / "benchmarks" / "results" / "chaos.json"

#: Waiting times of a test, shorter than in a hospital.
QUICK = {
    "SCREENING_FILE_QUIET_S": "1",
    "SCREENING_STUDY_QUIET_S": "2",
    "SCREENING_SCAN_INTERVAL_S": "1",
    "SCREENING_TRUNCATED_AFTER_S": "5",
    "SCREENING_MIN_FREE_MIB": "1",
    "SCREENING_PROVIDER": "cpu",
    "SCREENING_DATABASE_SILENCE_S": "3",
}

#: All faults, and how often.
FAULTS = {
    faults.WORKER_KILLED: 14,
    faults.CHILD_KILLED: 6,
    faults.WATCHER_KILLED: 5,
    faults.REDIS_RESTARTED: 2,
    faults.REDIS_FLUSHED: 2,
    faults.POSTGRES_RESTARTED: 2,
    faults.POSTGRES_SILENT: 3,
    faults.NETWORK_CUT: 2,
    faults.NETWORK_SILENT: 2,
    faults.DISK_FULL: 1,
    faults.CLOCK_JUMPED: 2,
}

#: Time between two looks at the database.
LOOK_S = 0.5


@dataclass(frozen=True)
class Storm:
    """The parameters of a run."""

    studies: int = 1000
    seed: int = 1
    window_s: float = 240.0  #: files are dropped, and faults happen, over this time
    longest_fault_s: float = 8.0
    patience_s: float = 1800.0  #: after the window
    workers: int = 3
    counts: dict[str, int] = field(default_factory=lambda: dict(FAULTS))
    settings: dict[str, str] = field(default_factory=dict)
    disk_mib: int = 1024


@contextmanager
def servers(folder: Path, storm: Storm) -> Iterator[tuple[RedisServer, PostgresServer, Proxy, Disk, WallClock]]:
    """The servers of an installation, stopped at the end."""
    with ExitStack() as stack:
        postgres = PostgresServer(folder / "pg")
        stack.callback(postgres.stop)
        redis = RedisServer(folder / "redis.log")
        redis.start()
        stack.callback(redis.stop)
        proxy = Proxy(redis.port)
        stack.callback(proxy.close)
        disk = Disk(folder / "store", storm.disk_mib)
        stack.callback(disk.close)
        yield redis, postgres, proxy, disk, WallClock(folder / "clock")


def run(storm: Storm) -> Account:
    """Write the files, inject the faults, wait, and count the results."""
    folder = Path(tempfile.mkdtemp(prefix="chaos"))
    try:
        with servers(folder, storm) as (redis, postgres, proxy, disk, clock):
            inbox = folder / "inbox"
            (inbox / "stat").mkdir(parents=True)
            urls = {"SCREENING_DATABASE": postgres.url, "SCREENING_STORE": str(disk.folder)}
            home = Installation(folder / "home", {**QUICK, **storm.settings, **urls})
            direct = _environment(home, redis.port)
            home.run("db", "upgrade")
            database = Database(postgres.url)
            crew = Crew(_members(home, inbox, folder, storm.workers, direct, _environment(home, proxy.port), clock))
            saboteur = faults.Saboteur(crew, redis, postgres, proxy, disk, clock, lambda: queued(database), storm.seed)
            files = list(drops(storm.studies))
            planned = faults.plan(_possible(storm.counts, clock), storm.window_s, storm.seed, storm.longest_fault_s)
            try:
                crew.start(START_S)
                began = time.monotonic()
                dropping = Thread(target=drop_all, args=(files, inbox, storm.window_s), name="sender")
                dropping.start()
                saboteur.run(planned, began)
                dropping.join()
                studies = list(dict.fromkeys(file.study_uid for file in files if file.study_uid))
                broken = sum(file.study_uid is None for file in files)
                wait_for(database, inbox, len(studies), broken, storm.patience_s)
            finally:
                crew.stop()
                saboteur.close()
            seconds = time.monotonic() - began
            reconciled = subprocess.run([*home.command("reconcile")], env=direct, capture_output=True, check=False)
            account = take(
                database, studies, crew.entries, saboteur.injected, reconciles=reconciled.returncode == 0,
                seconds=seconds,
            )  # fmt: skip
            database.close()
            if not account.is_whole:
                _keep(folder)
            return account
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def drop_all(files: list[Drop], inbox: Path, window_s: float) -> None:
    """Write the files at an even pace."""
    began = time.monotonic()
    for number, file in enumerate(files):
        time.sleep(max(0.0, began + number * window_s / len(files) - time.monotonic()))
        write(file, inbox)


def wait_for(database: Database, inbox: Path, studies: int, broken: int, patience_s: float) -> None:
    """Return when every file is taken in and every study has ended, or after the longest wait."""
    deadline = time.monotonic() + patience_s
    statement = text(
        "SELECT (SELECT COUNT(*) FROM study WHERE state IN ('screened', 'failed')),"
        " (SELECT COUNT(*) FROM arrival WHERE state = 'quarantined')"
    )
    while time.monotonic() < deadline:
        with suppress(DatabaseUnavailable), reading(database) as connection:
            ended, quarantined = connection.execute(statement).one()
            if ended == studies and quarantined >= broken and not any(inbox.rglob("*.*")):
                return
        time.sleep(LOOK_S)


def queued(database: Database) -> frozenset[str]:
    """The studies whose messages the broker should hold now; none while the database is away."""
    with suppress(DatabaseUnavailable), reading(database) as connection:
        return frozenset(connection.execute(text("SELECT study_uid FROM study WHERE state = 'queued'")).scalars())
    return frozenset()


def _members(
    site: Installation, inbox: Path, folder: Path, workers: int, direct: dict[str, str], cabled: dict[str, str],
    clock: WallClock,
) -> list[Member]:  # fmt: skip
    """A watcher with the broker, and workers behind the proxy, all under one clock."""
    found = [Member(WATCHER, site.command("watch", inbox), direct | clock.environment, folder / "watcher.log")]
    for number in range(1, workers + 1):
        name = f"worker{number}"
        command = [*celery(), "--hostname", f"{name}@%h"]
        found.append(Member(name, command, cabled | clock.environment, folder / f"{name}.log"))
    return found


def _environment(site: Installation, broker_port: int) -> dict[str, str]:
    return {**site.environment(), "SCREENING_BROKER": f"redis://{LOOPBACK}:{broker_port}/0"}


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
