"""A PostgreSQL that has stopped answering, over connections that stand, keeps nobody for good."""

import gc
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import text

from schema.database import Database
from tests.acceptance.installation import BUSY, wait_until
from tests.chaos.servers import LOOPBACK
from tests.watched_inbox import WatchedInbox
from worker.errors import DatabaseUnavailable
from worker.ledger.transactions import reading, writing

SILENCE_S = 1.5


@pytest.fixture(params=["postgresql"])
def kind(request: pytest.FixtureRequest) -> str:
    """There is no server to fall silent behind SQLite."""
    return str(request.param)


@pytest.fixture
def bounded(database_url: str) -> Iterator[Database]:
    """A database whose patience is short."""
    opened = Database(database_url, connections=2, silence_s=SILENCE_S)
    yield opened
    opened.close()


def backend(database: Database) -> int:
    """The server process of the connection that comes next."""
    with database.reading() as connection:
        return int(connection.execute(text("SELECT pg_backend_pid()")).scalar_one())


def took_s(work: Callable[[], object]) -> float:
    began = time.monotonic()
    with pytest.raises(DatabaseUnavailable):
        work()
    return time.monotonic() - began


def test_a_connection_that_fell_silent_between_two_transactions_is_replaced(bounded: Database) -> None:
    pid = backend(bounded)
    os.kill(pid, signal.SIGSTOP)
    began = time.monotonic()
    try:
        assert backend(bounded) != pid
        assert time.monotonic() - began < BUSY * 4 * SILENCE_S
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_commit_that_is_not_answered_is_an_outage(bounded: Database) -> None:
    stopped: list[int] = []

    def commit() -> None:
        with writing(bounded) as session:
            stopped.append(int(session.execute(text("SELECT pg_backend_pid()")).scalar_one()))
            os.kill(stopped[0], signal.SIGSTOP)

    try:
        assert took_s(commit) < BUSY * 4 * SILENCE_S
    finally:
        os.kill(stopped[0], signal.SIGCONT)


def test_a_statement_that_takes_too_long_is_ended_by_the_server(bounded: Database) -> None:
    def sleep() -> None:
        with reading(bounded) as connection:
            connection.execute(text("SELECT pg_sleep(60)"))

    assert took_s(sleep) < BUSY * 4 * SILENCE_S
    assert backend(bounded), "the connection serves on"


def test_a_server_that_accepts_and_says_nothing() -> None:
    with socket.create_server((LOOPBACK, 0), backlog=8) as listener:
        database = Database(f"postgresql+psycopg://me@{LOOPBACK}:{listener.getsockname()[1]}/x", silence_s=SILENCE_S)

        def ask() -> None:
            with reading(database):
                pass

        assert took_s(ask) < BUSY * 15
        database.close()


def test_what_the_url_says_of_a_connection_goes_first(database_url: str) -> None:
    database = Database(f"{database_url}&connect_timeout=17&application_name=ours")
    with database.reading() as connection:
        driver = connection.connection.driver_connection
        assert driver is not None
        parameters = driver.info.get_parameters()
    assert (parameters["connect_timeout"], parameters["application_name"]) == ("17", "ours")
    assert parameters["tcp_user_timeout"] == "20000"
    database.close()


def test_who_waits_for_the_database_can_be_asked(bounded: Database) -> None:
    asked, answered = threading.Event(), threading.Event()

    def ask() -> None:
        with reading(bounded):
            asked.set()
            assert answered.wait(150)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        assert asked.wait(150)
        wait_until(lambda: bounded.waited_s > 0.2, 60)
    finally:
        answered.set()
        thread.join()
    assert bounded.waited_s <= 0, "nobody waits"


def test_the_watcher_goes_on_when_the_database_answers_again(watched: WatchedInbox, database_url: str) -> None:
    watched.desk.database = Database(database_url, silence_s=SILENCE_S)
    watched.start(scan_interval_s=0.05)
    watched.drop("a.dcm")
    stop = threading.Event()

    def goes_on() -> bool:
        watched.desk.clock.forward(1)
        return bool(watched.published)

    thread = threading.Thread(target=watched.watcher.run, args=[stop])
    pid = backend(watched.desk.database)
    thread.start()
    os.kill(pid, signal.SIGSTOP)  # for good, as a connection that a firewall forgot
    try:
        wait_until(goes_on, 30)
    finally:
        stop.set()
        thread.join()
        os.kill(pid, signal.SIGCONT)
        watched.desk.database.close()


def test_a_connection_at_work_while_its_pool_is_closed_ends_without_a_word(database_url: str) -> None:
    database = Database(database_url)
    with database.reading() as connection:
        server = int(connection.execute(text("SELECT pg_backend_pid()")).scalar_one())
        database.close()
    del database, connection
    gc.collect()  # a warning would fail the test
    others = Database(database_url)
    asked = text("SELECT COUNT(*) FROM pg_stat_activity WHERE pid = :pid")

    def is_gone() -> bool:
        with others.reading() as connection:
            return bool(connection.execute(asked, {"pid": server}).scalar_one() == 0)

    wait_until(is_gone, BUSY)
    others.close()
