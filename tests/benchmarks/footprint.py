"""What a study needs beside CPU time: Redis' commands, PostgreSQL's transactions, bytes that stay.

    python -m tests.benchmarks.footprint [--studies N] [--write]

A watcher and a queue worker on a Redis and a PostgreSQL of their own screen N full-size studies (32 MB of disk each).
The servers' own counters are read before and after; what the idle installation asks is measured first and subtracted.
"""

import json
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import redis
from sqlalchemy import text

from schema.database import Database
from tests.acceptance.installation import Installation, production
from tests.benchmarks.studies import write_studies
from tests.chaos.servers import LOOPBACK, PostgresServer, RedisServer
from worker.settings import Settings

RESULT = Path(__file__).parent / "results" / "footprint.json"

#: How long the idle installation is measured, after this long to start.
IDLE_S, START_S = 30.0, 20.0

#: A busy machine may take so long for a study.
LONGEST_STUDY_S = 20.0

#: PostgreSQL's processes report their counts after this time at most.
REPORTED_S = 3.0

#: Each query of the progress is a transaction too.
LOOK_S = 5.0

#: Settings as in a hospital, without the wait for more images of a study.
SETTINGS = {"SCREENING_PROVIDER": "cpu", "SCREENING_STUDY_QUIET_S": "1", "SCREENING_FILE_QUIET_S": "1"}

LIBRARIES = ("celery", "redis", "sqlalchemy", "psycopg")


@dataclass(frozen=True)
class Counters:
    """The servers' counters at one moment."""

    at_s: float
    redis_commands: float
    postgresql_transactions: float
    postgresql_rows_written: float
    database_bytes: float


@dataclass(frozen=True)
class Servers:
    """A Redis and a PostgreSQL, and the installation that uses them."""

    broker: RedisServer
    database: Database

    def counted(self) -> Counters:
        """Their counters, once every process has reported."""
        time.sleep(REPORTED_S)
        with redis.Redis(host=LOOPBACK, port=self.broker.port) as client:
            commands = float(client.info("stats")["total_commands_processed"])
        with self.database.reading() as connection:
            transactions, rows, size = connection.execute(
                text(
                    "SELECT xact_commit, tup_inserted + tup_updated, pg_database_size(datname) FROM pg_stat_database"
                    " WHERE datname = current_database()"
                )
            ).one()
        return Counters(time.monotonic(), commands, float(transactions), float(rows), float(size))

    def screened(self) -> int:
        """How many studies have their result."""
        with self.database.reading() as connection:
            return int(connection.execute(text("SELECT COUNT(*) FROM study WHERE state = 'screened'")).scalar_one())


def each(before: Counters, after: Counters, idle: dict[str, float], studies: int) -> dict[str, float]:
    """The growth of every counter a study, without what the idle installation would have asked meanwhile."""
    seconds = after.at_s - before.at_s
    return {
        name: round((getattr(after, name) - getattr(before, name) - idle[name] * seconds) / studies, 1) for name in idle
    }


def each_second(before: Counters, after: Counters) -> dict[str, float]:
    """The growth of every counter a second."""
    names = ("redis_commands", "postgresql_transactions", "postgresql_rows_written", "database_bytes")
    return {name: (getattr(after, name) - getattr(before, name)) / (after.at_s - before.at_s) for name in names}


def bytes_below(folder: Path) -> int:
    """Size of the files of a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def measure(folder: Path, studies: int) -> dict[str, Any]:
    """Screen so many studies."""
    inbox, drafts = folder / "inbox", folder / "drafts"
    inbox.mkdir()
    drafts.mkdir()
    with ExitStack() as stack:
        broker, postgres = RedisServer(folder / "redis.log"), PostgresServer(folder / "pg")
        stack.callback(postgres.stop)
        stack.callback(broker.stop)
        broker.start()
        urls = {"SCREENING_DATABASE": postgres.url, "SCREENING_BROKER": f"redis://{LOOPBACK}:{broker.port}/0"}
        site = Installation(folder / "home", SETTINGS | urls)
        site.run("db", "upgrade")
        database = Database(Settings(database=postgres.url).database_url)
        stack.callback(database.close)
        servers = Servers(broker, database)
        stack.enter_context(production(site, inbox, folder))
        time.sleep(START_S)
        first = servers.counted()
        time.sleep(IDLE_S)
        before = servers.counted()
        idle = each_second(first, before)
        paths = write_studies(drafts, studies)
        received = sum(path.stat().st_size for path in paths)
        for path in paths:
            path.rename(inbox / path.name)
        deadline = time.monotonic() + START_S + studies * LONGEST_STUDY_S
        while servers.screened() < studies:
            assert time.monotonic() < deadline, "the installation does not get done"
            time.sleep(LOOK_S)
        after = servers.counted()
    return {
        "each study": each(before, after, idle, studies),
        "idle, each second": {name: round(value, 1) for name, value in idle.items()},
        "store_bytes": round(bytes_below(site.home / "store") / studies),
        "received_bytes": round(received / studies),
        "studies": studies,
    }


@click.command()
@click.option("--studies", default=40, show_default=True, type=click.IntRange(min=2))
@click.option("--write", is_flag=True, help=f"Keep the result in {RESULT.name}.")
def main(studies: int, write: bool) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory(prefix="screening-bench-") as name:
        found = measure(Path(name), studies)
    found["versions"] = {name: version(name) for name in LIBRARIES}
    found["measured_on"] = f"{datetime.now(UTC):%Y-%m-%d}"
    told = json.dumps(found, indent=2)
    if write:
        RESULT.write_text(told + "\n", encoding="utf-8")
    click.echo(told)


if __name__ == "__main__":
    main()
