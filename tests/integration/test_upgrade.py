"""A database made by the first release, with data in it, is migrated while one of its workers goes on.

The old worker is its tables as the first migration made them: what it writes names their columns and no others.
"""

import itertools
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import attrs
import pytest
import sqlalchemy as sa
from alembic import command

from schema.database import HEAD, Database, open_engine
from schema.migrate import DEADLOCK, alembic_config
from tests.acceptance.installation import Installation, celery, wait_until
from tests.ledger import Clock, Ledger
from worker.errors import SchemaOutdated
from worker.ledger.connect import open_database, upgrade
from worker.monitoring.health import check_readiness
from worker.monitoring.reconciliation import reconcile
from worker.settings import Settings
from worker.store.folder import FolderStore
from worker.tasks import REFUSED

T = TypeVar("T")

FIRST_RELEASE = "0001"
BEFORE = datetime(2026, 3, 1, 8, 0, tzinfo=UTC)


class OldWorker:
    """Takes in a study, claims it and records a verdict, again and again, as the first release did.

    `first`: number of its first study. What PostgreSQL ends for the sake of another, it does once more.
    """

    def __init__(self, url: str, first: int = 0) -> None:
        self.engine = open_engine(url)
        self.tables = sa.MetaData()
        self.tables.reflect(self.engine)
        self.first = first
        self.written = 0
        self.fault: BaseException | None = None
        if first:
            return
        with self.engine.begin() as connection:
            model = {"digest": "d" * 64, "name": "n", "recipe": "r", "threshold": 0.5, "card": {}}
            connection.execute(self.tables.tables["model_version"].insert(), [model | {"first_used_at": BEFORE}])

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Work in a thread of its own while the block runs; raises what went wrong there."""
        stop = threading.Event()
        thread = threading.Thread(target=self._work, args=(stop,))
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
        if self.fault is not None:
            raise self.fault

    def _work(self, stop: threading.Event) -> None:
        try:
            for number in itertools.count(self.first):
                if stop.is_set():
                    return
                study_id = until_done(lambda: self._receive(number))  # noqa: B023 called at once
                until_done(lambda: self._screen(study_id, number))  # noqa: B023
                self.written += 1
        except Exception as error:  # noqa: BLE001 raised by `at_work`
            self.fault = error

    def _receive(self, number: int) -> int:
        moments = ("received_at", "asked_at", "settles_at", "overdue_at", "result_due_at")
        with self.engine.begin() as connection:
            study_id = self._insert(
                connection, "study", study_uid=f"1.2.{number}", state="queued", revision=1, priority="routine",
                attempts=0, asked_because="new_images", band=5, sort_key=f"5{number:020d}", reason="awaiting_result",
                **dict.fromkeys(moments, BEFORE + timedelta(seconds=number)),
            )  # fmt: skip
            series_id = self._insert(connection, "series", study_id=study_id, series_uid=f"1.2.{number}.1")
            instance_id = self._insert(
                connection, "instance", series_id=series_id, sop_instance_uid=f"1.2.{number}.1.1", digest="e" * 64,
                size_bytes=1, left_at="/x", container="dicom", rows=1, columns=1, superseded=False, notes=[],
                received_at=BEFORE,
            )  # fmt: skip
            self._insert(
                connection, "arrival", path=f"/inbox/{number}.dcm", size_bytes=1, mtime_ns=1, state="accepted",
                in_store=False, priority="routine", seen_at=BEFORE, changed_at=BEFORE, study_id=study_id,
                instance_id=instance_id,
            )  # fmt: skip
        return study_id

    def _screen(self, study_id: int, number: int) -> None:
        study = self.tables.tables["study"]
        with self.engine.begin() as connection:
            claimed = study.update().where(study.c.id == study_id, study.c.state == "queued")
            connection.execute(claimed.values(state="screening", claim="c", attempts=study.c.attempts + 1))
        with self.engine.begin() as connection:
            screening_id = self._insert(
                connection, "screening", study_id=study_id, revision=1, model_digest="d" * 64, verdict="not_flagged",
                reason="below_threshold", detail="", probability=0.1, threshold=0.5, provider="CPUExecutionProvider",
                screened_at=BEFORE, screened_on="2026-03-01", waited_s=1.0, worked_s=0.1,
            )  # fmt: skip
            done = {"state": "screened", "claim": None, "attempts": 0, "current_screening_id": screening_id}
            place = {"band": 6, "sort_key": f"6{number:020d}", "reason": "below_threshold"}
            connection.execute(study.update().where(study.c.id == study_id).values(**done, **place, screened_at=BEFORE))

    def _insert(self, connection: sa.Connection, table: str, **values: object) -> int:
        made = connection.execute(self.tables.tables[table].insert().values(**values))
        assert made.inserted_primary_key is not None
        return int(made.inserted_primary_key[0])


def until_done(work: Callable[[], T]) -> T:
    """Work whose transaction may be the one that a deadlock ends."""
    while True:
        try:
            return work()
        except sa.exc.OperationalError as error:
            if getattr(error.orig, "sqlstate", None) != DEADLOCK:
                raise


@pytest.fixture
def old_worker(empty_url: str) -> Iterator[OldWorker]:
    command.upgrade(alembic_config(empty_url), FIRST_RELEASE)
    worker = OldWorker(empty_url)
    yield worker
    worker.engine.dispose()


@pytest.mark.slow
def test_a_database_of_the_first_release_is_upgraded_under_a_running_worker(
    empty_url: str, old_worker: OldWorker, settings: Settings, clock: Clock
) -> None:
    ours = attrs.evolve(settings, database=empty_url)
    with old_worker.at_work():
        wait_until(lambda: old_worker.written >= 5, 60)
        upgrade(ours)
        after = old_worker.written
        wait_until(lambda: old_worker.written >= after + 5 or old_worker.fault is not None, 60)
    database = open_database(ours)
    assert database.revision() == HEAD
    desk = Ledger(database, ours, FolderStore(ours.home / "store"), clock)
    account = reconcile(database, desk.store)
    assert account.holds, account
    assert account.studies["screened"] >= old_worker.written
    assert {entry.reason for entry in desk.worklist()} == {"below_threshold"}
    assert counted(database, "shadow_of IS NOT NULL") == 0
    desk.receive("1.2.0", "1.2.0.1.2", "another image of an old study")
    desk.screen("1.2.0", 0.9)
    assert (desk.entry("1.2.0").verdict, desk.study("1.2.0").revision) == ("flagged", 2)
    database.close()


@pytest.mark.slow
def test_several_busy_workers_do_not_keep_a_database_from_its_upgrade(
    empty_url: str, old_worker: OldWorker, settings: Settings
) -> None:
    """PostgreSQL ends a transaction whose locks cross another's: a migration took its own one by one."""
    others = [OldWorker(empty_url, first) for first in (10**6, 2 * 10**6, 3 * 10**6)]
    with ExitStack() as at_work:
        for worker in (old_worker, *others):
            at_work.enter_context(worker.at_work())
        wait_until(lambda: all(worker.written for worker in (old_worker, *others)), 60)
        upgrade(attrs.evolve(settings, database=empty_url))
    for worker in others:
        worker.engine.dispose()
    database = open_database(attrs.evolve(settings, database=empty_url))
    assert counted(database, "revision = 1") == sum(worker.written for worker in (old_worker, *others))
    database.close()


def counted(database: Database, condition: str) -> int:
    with database.reading() as connection:
        return int(connection.execute(sa.text(f"SELECT COUNT(*) FROM screening WHERE {condition}")).scalar_one())


def test_a_database_of_a_newer_release_is_left_alone(desk: Ledger) -> None:
    with desk.database.writing() as session:
        session.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    settings = attrs.evolve(desk.settings, database=desk.database.url)
    for work in (open_database, upgrade):
        with pytest.raises(SchemaOutdated, match="upgrade the program"):
            work(settings)
    assert desk.database.revision() == "9999"


@pytest.mark.parametrize("kind", ["sqlite"])
@pytest.mark.parametrize(("found", "remedy"), [("9999", "upgrade the program"), ("0001", "run `worker db upgrade`")])
def test_a_queue_worker_does_not_serve_a_database_of_another_release(desk: Ledger, found: str, remedy: str) -> None:
    """Though every table and column that it asks for is there."""
    with desk.database.writing() as session:
        session.execute(sa.text("UPDATE alembic_version SET version_num = :found"), {"found": found})
    site = Installation(
        desk.settings.home, {"SCREENING_DATABASE": desk.database.url, "SCREENING_BROKER": "redis://nowhere"}
    )
    ended = subprocess.run(celery(), env=site.environment(), capture_output=True, text=True, check=False)
    assert ended.returncode == REFUSED
    assert f"the worker does not start: the database is at {found}" in ended.stderr
    assert remedy in ended.stderr
    settings = attrs.evolve(desk.settings, database=desk.database.url)
    database = next(finding for finding in check_readiness(settings) if finding.what == "database")
    assert not database.is_well
    assert remedy in database.message
