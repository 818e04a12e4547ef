"""Signs of life: each process writes one now and then, and the list says in words which process is missing."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from schema.database import Database
from schema.vocabulary import Process
from tests.ledger import Ledger
from tests.reading_room import Page, running
from tests.watched_inbox import WatchedInbox
from worker.errors import StorageUnavailable
from worker.ledger.operations import signs_of_life
from worker.ledger.operations.signs_of_life import EVERY_S, FORGOTTEN_AFTER, Signs
from worker.ledger.reading_room import accounts
from worker.worklist.signs_of_life import MISSED_AFTER


@pytest.fixture
def page(desk: Ledger) -> Iterator[Page]:
    with running(desk) as page:
        yield page


def hosts(database: Database) -> set[tuple[str, str]]:
    with database.reading() as connection:
        return {
            (row.process, row.host) for row in connection.execute(sa.text("SELECT process, host FROM sign_of_life"))
        }


def alive(desk: Ledger, *kinds: Process) -> None:
    for kind in kinds:
        signs_of_life.record(desk.database, kind, "here", desk.clock())


def test_a_machine_has_one_row_and_is_forgotten_when_another_takes_its_place(desk: Ledger) -> None:
    alive(desk, Process.WORKER)
    desk.clock.forward(60)
    alive(desk, Process.WORKER)
    assert hosts(desk.database) == {("worker", "here")}
    desk.clock.forward(FORGOTTEN_AFTER.total_seconds() + 1)
    signs_of_life.record(desk.database, Process.WATCHER, "there", desk.clock())
    assert hosts(desk.database) == {("worker", "here"), ("watcher", "there")}
    signs_of_life.record(desk.database, Process.WORKER, "there", desk.clock())
    assert hosts(desk.database) == {("worker", "there"), ("watcher", "there")}


def test_a_process_writes_once_in_fifteen_seconds_and_outlives_an_outage(desk: Ledger, tmp_path: Path) -> None:
    now_s = [0.0]
    signs, written = Signs(desk.database, Process.WORKER, desk.clock, lambda: now_s[0]), []
    for now_s[0] in (0.0, 1.0, EVERY_S - 0.1, EVERY_S, EVERY_S + 1):
        signs.give()
        with desk.database.reading() as connection:
            written.append(connection.execute(sa.text("SELECT seen_at FROM sign_of_life")).scalar())
        desk.clock.forward(1)
    assert [moment == written[n - 1] for n, moment in enumerate(written)][1:] == [True, True, False, True]
    away = Database(f"sqlite:///{tmp_path}/no/such/folder/away.sqlite")
    Signs(away, Process.WORKER).give()  # raises nothing
    away.close()


def test_a_sign_that_the_database_refuses_is_told_and_costs_no_work(
    desk: Ledger, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with desk.database.writing() as session:
        session.execute(sa.text("DROP TABLE sign_of_life"))
        session.execute(
            sa.text("CREATE TABLE sign_of_life (process TEXT, host TEXT, seen_at TIMESTAMPTZ CHECK (1 = 0))")
        )
    watched = WatchedInbox(desk, tmp_path / "inbox")
    watched.watcher.offer()  # raises nothing
    assert caplog.messages == ["no_sign_of_life"]


@pytest.mark.parametrize("kind", ["sqlite"])
def test_the_watcher_gives_signs_while_it_scans_and_while_it_takes_files_in(desk: Ledger, tmp_path: Path) -> None:
    watched = WatchedInbox(desk, tmp_path / "inbox")
    watched.watcher.offer()  # as between two files of a long backlog
    assert {process for process, _ in hosts(desk.database)} == {"watcher"}


@pytest.mark.parametrize("kind", ["sqlite"])
def test_a_watcher_that_takes_nothing_in_gives_no_sign_until_it_does(desk: Ledger, tmp_path: Path) -> None:
    watched = WatchedInbox(desk, tmp_path / "inbox")

    def last_sign() -> object:
        watched.watcher.offer()
        with desk.database.reading() as connection:
            return connection.execute(sa.text("SELECT seen_at FROM sign_of_life")).scalar()

    watched.scan()
    first = last_sign()
    watched.inbox.rmdir()
    desk.clock.forward(EVERY_S + 1)
    with pytest.raises(StorageUnavailable):
        watched.watcher.scan()
    assert last_sign() == first
    watched.inbox.mkdir()
    watched.watcher.scan()
    assert last_sign() != first


def test_the_list_names_what_is_missing_and_what_does_not_happen_meanwhile(page: Page) -> None:
    visitor = page.visitor("ann")
    text = visitor.get("/").text
    assert "The watcher was never seen alive; no file is taken in" in text
    assert "The worker was never seen alive; no study is screened" in text
    assert "receiver" not in text  # none was ever there
    alive(page.desk, *Process)
    text = visitor.get("/").text
    assert "seen alive" not in text
    for said in ("watcher alive", "worker alive", "receiver alive", "2026-03-02 08:00 UTC"):
        assert said in text
    page.desk.clock.forward(MISSED_AFTER.total_seconds() + 1)
    alive(page.desk, Process.WATCHER, Process.WORKER)
    text = visitor.get("/").text
    assert "The receiver was last seen alive" in text
    assert "no image is received by DICOM" in text
    assert "The watcher" not in text


def test_a_poll_tells_when_each_was_seen_without_a_body_and_brings_the_warning(page: Page) -> None:
    desk, visitor = page.desk, page.visitor("ann")
    alive(desk, Process.WATCHER, Process.WORKER)
    tag = visitor.get("/rows").header("ETag")
    desk.clock.forward(30)
    alive(desk, Process.WATCHER, Process.WORKER)
    unchanged = visitor.get("/rows", If_None_Match=tag)
    assert (unchanged.status, unchanged.body) == (304, b"")
    assert "watcher=2026-03-02T08:00:30Z" in unchanged.header("X-Seen-At")
    desk.clock.forward(MISSED_AFTER.total_seconds() + 1)
    changed = visitor.get("/rows", If_None_Match=tag)
    assert changed.status == 200
    assert "The worker was last seen alive" in changed.text


def test_other_systems_are_told_too(page: Page) -> None:
    desk = page.desk
    alive(desk, Process.WATCHER)
    token = accounts.make_token(desk.database, "ris", ("health",), "me", desk.clock())
    told = json.loads(page.visitor().get("/api/v1/health", Authorization=f"Bearer {token}").text)
    assert told["last_seen_at"] == {"watcher": desk.clock().isoformat()}
    assert told["missing"] == ["worker"]


def test_a_sign_that_a_silent_database_holds_does_not_hold_the_end_of_its_process(desk: Ledger) -> None:
    begun, goes_on = threading.Event(), threading.Event()

    def waits() -> bool:
        begun.set()
        return not goes_on.wait(120)

    with Signs(desk.database, Process.RECEIVER).given(waits):
        assert begun.wait(60)
        began_s = time.monotonic()
    assert time.monotonic() - began_s < 60
    goes_on.set()
