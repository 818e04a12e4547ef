"""A ledger of a million studies: the next fifty of the worklist and a review, while twenty thousand are unread.

    python -m tests.benchmarks.archive [--studies N] [--unread N] [--database URL] [--write]

Without a URL, SQLite in a temporary folder (1 GB for a million studies). The database must be empty.
"""

import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from sqlalchemy import text

from schema.database import Database
from schema.migrate import upgrade
from schema.vocabulary import ReviewOutcome
from worker import worklist
from worker.ledger import people
from worker.store import Store

RESULT = Path(__file__).parent / "results" / "archive.json"

NEXT, ROUNDS = 50, 101

_NUMBERS = "WITH RECURSIVE n(i) AS (SELECT CAST(1 AS BIGINT) UNION ALL SELECT i + 1 FROM n WHERE i < {count}) "

#: One study each of every number: screened, flagged in one of ten cases, its image in one file. The newest are unread.
_ROWS = (
    "INSERT INTO model_version (digest, name, recipe, threshold, card, first_used_at)"
    " VALUES ('m', 'bench', 'bench', 0.5, '{{}}', '{now}')",
    "INSERT INTO study (id, study_uid, patient_id, accession_number, state, revision, priority, received_at, asked_at,"
    " asked_because, settles_at, attempts, screened_at, read_at, current_screening_id, band, sort_key, reason,"
    " overdue_at, result_due_at) " + _NUMBERS + "SELECT i, '2.25.7' || (100000000 + i), 'P' || i, 'A' || i, 'screened',"
    " 1, 'routine', '{now}', '{now}', 'new_images', '{now}', 0, '{now}',"
    " CASE WHEN i > {count} - {unread} THEN NULL ELSE {moment} END, i, CASE WHEN i % 10 = 0 THEN 3 ELSE 6 END,"
    " CASE WHEN i % 10 = 0 THEN '3' ELSE '6' END || (1000000 + i * 7919 % 1000000) || (1700000000000 + i),"
    " 'below_threshold', '{later}', '{later}' FROM n",
    "INSERT INTO series (id, study_id, series_uid, modality) " + _NUMBERS + "SELECT i, i, '2.25.8' || i, 'DX' FROM n",
    "INSERT INTO instance (id, series_id, sop_instance_uid, digest, size_bytes, container, rows, columns, superseded,"
    " notes, received_at) " + _NUMBERS + "SELECT i, i, '2.25.9' || i, 'd' || i, 1, 'dicom', 1, 1, {no}, '[]', '{now}'"
    " FROM n",
    "INSERT INTO arrival (id, path, size_bytes, mtime_ns, state, in_store, priority, seen_at, changed_at, study_id,"
    " instance_id) " + _NUMBERS + "SELECT i, '/inbox/' || i || '.dcm', 1, 1, 'accepted', {yes}, 'routine', '{now}',"
    " '{now}', i, i FROM n",
    "INSERT INTO screening (id, study_id, revision, model_digest, verdict, reason, detail, probability, threshold,"
    " provider, deciding_finding, screened_at, screened_on, waited_s, worked_s) " + _NUMBERS + "SELECT i, i, 1, 'm',"
    " CASE WHEN i % 10 = 0 THEN 'flagged' ELSE 'not_flagged' END, 'below_threshold', '', 0.25, 0.5, 'cpu', 0, '{now}',"
    " '2026-01-01', 1, 1 FROM n",
    "INSERT INTO finding (id, screening_id, ordinal, instance_id, probability, overlay_digest, notes) "
    + _NUMBERS + "SELECT i, i, 0, i, 0.25, 'o' || i, '[]' FROM n",
)  # fmt: skip

#: Whose ids PostgreSQL counts by itself, and has to go on from the last of ours.
_COUNTED = ("study", "series", "instance", "arrival", "screening", "finding")


def fill(database: Database, count: int, unread: int) -> None:
    """`count` screened studies of one image each, all but the newest `unread` of them read."""
    is_sqlite = database.engine.dialect.name == "sqlite"
    now, later = "2026-01-01 08:00:00.000000", "2099-01-01 08:00:00.000000"
    if not is_sqlite:
        now, later = now + "+00", later + "+00"
    words = {
        "count": count, "unread": unread, "now": now, "later": later,
        "yes": "1" if is_sqlite else "TRUE", "no": "0" if is_sqlite else "FALSE",
        "moment": f"'{now}'" if is_sqlite else f"TIMESTAMPTZ '{now}'",
    }  # fmt: skip
    with database.writing() as session:
        for statement in _ROWS:
            session.connection().exec_driver_sql(statement.format(**words).replace("%", "%" if is_sqlite else "%%"))
        if not is_sqlite:
            for table in _COUNTED:
                session.execute(text(f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), {count})"))
    if not is_sqlite:  # as its autovacuum would; nothing counts in SQLite, which plans without
        with database.writing() as session:
            session.execute(text("ANALYZE"))


def median_ms(work: Callable[[int], Any], rounds: int = ROUNDS) -> dict[str, float]:
    """Median of the rounds, by the wall and by this process's CPU."""
    walls, cpus = [], []
    for number in range(rounds):
        wall, cpu = time.perf_counter(), time.process_time()
        work(number)
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return {"wall_ms": round(statistics.median(walls) * 1e3, 2), "cpu_ms": round(statistics.median(cpus) * 1e3, 2)}


def measured(database: Database, store: Store, count: int) -> dict[str, Any]:
    """What a reader does, in the program's own functions."""
    outcome = next(iter(ReviewOutcome))

    def review(name: str) -> None:
        people.review(database, name, outcome, "bench", None, datetime.now(UTC))

    return {
        "next_50": median_ms(lambda _: worklist.entries(database, store, NEXT)),
        "review_by_uid": median_ms(lambda i: review(f"2.25.7{100000000 + count - i}")),
        "review_by_accession_number": median_ms(lambda i: review(f"A{count - 1000 - i}")),
        "review_by_file_name": median_ms(lambda i: review(f"{count - 2000 - i}.dcm"), rounds=5),
        "is_stale": median_ms(lambda _: worklist.is_stale(database, datetime.now(UTC))),
        "count": median_ms(lambda _: worklist.count(database)),
    }


@click.command()
@click.option("--studies", default=1_000_000, show_default=True, type=click.IntRange(min=5000))
@click.option("--unread", default=20_000, show_default=True, type=click.IntRange(min=4000))
@click.option("--database", "url", default="", help="An empty database; SQLite in a temporary folder if not given.")
@click.option("--write", is_flag=True, help="Keep the result in tests/benchmarks/results/archive.json.")
def main(studies: int, unread: int, url: str, write: bool) -> None:
    """Fill, measure, print."""
    with tempfile.TemporaryDirectory(prefix="screening-bench-") as name:
        url = url or f"sqlite:///{name}/archive.sqlite"
        upgrade(url)
        database = Database(url)
        fill(database, studies, unread)
        kind = database.engine.dialect.name
        found = {
            **measured(database, Store(Path(name)), studies),
            "studies": studies,
            "unread": unread,
            "machine_load": round(os.getloadavg()[0], 1),
            "measured_on": datetime.now(UTC).date().isoformat(),
        }
        database.close()
    if write:
        kept = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.exists() else {}
        RESULT.write_text(json.dumps(kept | {kind: found}, indent=2) + "\n", encoding="utf-8")
    click.echo(json.dumps({kind: found}, indent=2))


if __name__ == "__main__":
    main()
