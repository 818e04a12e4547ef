"""Files a second that one watcher, and several that share an inbox, take in with PostgreSQL:

    python -m tests.benchmarks.several_watchers --files 2000 --rounds 3 [--watchers 2] [--write]

Small radiographs (7 kB) of a study each, in 64 folders, so that the ledger is the larger part; real
processes, PostgreSQL with its defaults (each commit is durable), Redis, no queue worker. The clock runs from the first
booked file to the last one. The numbers of watchers are measured in turns.
"""

import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from sqlalchemy import text

from schema.database import Database
from tests.acceptance.installation import Installation, wait_until
from tests.benchmarks.machine import Watch, machine, tell
from tests.chaos.servers import LOOPBACK, PostgresServer, RedisServer
from tests.watched_inbox import another
from worker.ledger.intake import inbox_shares
from worker.ledger.intake.inbox_shares import SHARES
from worker.runtime.children import child
from worker.settings import Settings

RESULT = Path(__file__).parent / "results" / "several_watchers.json"

LIBRARIES = ("psycopg", "sqlalchemy", "pydicom")

FOLDERS = 64

SETTINGS = {
    "SCREENING_FILE_QUIET_S": "0.001", "SCREENING_SCAN_INTERVAL_S": "0.1", "SCREENING_HEARTBEAT_S": "0.5",
    "SCREENING_MIN_FREE_MIB": "1",
}  # fmt: skip

#: Longest time for one file.
PATIENCE_S = 0.5


@contextmanager
def watching(folder: Path, urls: dict[str, str], database: Database, watchers: int) -> Iterator[Path]:
    """The inbox of so many watchers, once they have divided it."""
    inbox = folder / "inbox"
    inbox.mkdir()
    with ExitStack() as stack:
        for number in range(watchers):
            site = Installation(
                folder / f"home {number}", {**SETTINGS, **urls, "SCREENING_STORE": str(folder / "store")}
            )
            log = folder / f"{number}.log"
            stack.enter_context(child(site.command("watch", inbox), log, 30, site.environment()))

        def is_divided() -> bool:
            held = [w.shares for w in inbox_shares.watcher_shares(database) if w.inbox == str(inbox) and w.host]
            return len(held) == watchers and sum(held) == SHARES and max(held) - min(held) <= 1

        wait_until(is_divided, 60)
        yield inbox


def files_a_second(
    folder: Path, urls: dict[str, str], database: Database, watchers: int, files: int, first: int
) -> float:
    """One round: studies numbered from `first` on, which the ledger does not know, in an inbox of their own."""
    drafts = folder / "drafts"
    for number in range(files):
        path = drafts / f"ward {number % FOLDERS}" / f"{number}.dcm"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(another(first + number))

    def arrived(state: str = "%") -> int:
        counted = text("SELECT COUNT(*) FROM arrival WHERE path LIKE :below AND state LIKE :state")
        with database.reading() as connection:
            return int(connection.execute(counted, {"below": f"{folder}/%", "state": state}).scalar_one())

    with watching(folder, urls, database, watchers) as inbox:
        for ward in drafts.iterdir():
            ward.rename(inbox / ward.name)
        wait_until(lambda: arrived("accepted") > 0, 60)
        before, began = arrived("accepted"), time.monotonic()
        wait_until(lambda: arrived("accepted") == files, files * PATIENCE_S)
        rate = (files - before) / (time.monotonic() - began)
    assert arrived() == files, f"{arrived()} arrivals of {files} files"
    return rate


@click.command()
@click.option("--files", default=2000, show_default=True, type=click.IntRange(min=64), help="Files of a round.")
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(min=1), help="Turns of all numbers.")
@click.option("--watchers", default=2, show_default=True, type=click.IntRange(2, SHARES), help="Compared with one.")
@click.option("--write", is_flag=True, help="Keep the result in tests/benchmarks/results/several_watchers.json.")
def main(files: int, rounds: int, watchers: int, write: bool) -> None:
    """Measure, print."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name, ExitStack() as stack:
        folder = Path(name)
        broker, postgres = RedisServer(folder / "redis.log"), PostgresServer(folder / "pg")
        stack.callback(postgres.stop)
        stack.callback(broker.stop)
        broker.start()
        urls = {"SCREENING_DATABASE": postgres.url, "SCREENING_BROKER": f"redis://{LOOPBACK}:{broker.port}/0"}
        Installation(folder / "home", urls).run("db", "upgrade")
        database = Database(Settings(database=postgres.url).database_url)
        stack.callback(database.close)
        watch, rates = Watch(), dict[int, list[float]]()
        for turn, number in enumerate([1, watchers] * rounds):
            place = folder / f"turn {turn}"
            place.mkdir()
            rate = files_a_second(place, urls, database, number, files, turn * files)
            rates.setdefault(number, []).append(rate)
        facts = machine(watch.share_taken_by_others(), LIBRARIES)
    found: dict[str, Any] = {f"watchers: {number}": _told(rounds_) for number, rounds_ in rates.items()}
    found |= {"files": files, "rounds": rounds, "machine": facts, "measured_on": datetime.now(UTC).date().isoformat()}
    tell(found, RESULT if write else None)


def _told(rates: list[float]) -> dict[str, Any]:
    median = round(statistics.median(rates), 1)
    return {"files_a_second": median, "files_a_second_of_rounds": [round(rate, 1) for rate in rates]}


if __name__ == "__main__":
    main()
