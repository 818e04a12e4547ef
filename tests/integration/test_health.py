"""The alarm for every cause: a study waits too long for its result. A database that is away costs one wait."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import attrs
import pytest

from schema.vocabulary import Priority
from tests.ledger import STUDY, Ledger
from worker.monitoring.health import CheckResult, check
from worker.worklist.underway import longest_wait_s

A, B, C = (f"{STUDY}.{n}" for n in (1, 2, 3))


def test_the_longest_wait_is_that_of_the_oldest_study_without_a_result(desk: Ledger) -> None:
    assert longest_wait_s(desk.database, desk.clock()) == 0
    desk.receive(A, content=A, priority=Priority.NIGHTLY)
    desk.clock.forward(1000)
    assert longest_wait_s(desk.database, desk.clock()) == 0, "an archive waits for the night"
    desk.receive(B, content=B)
    desk.clock.forward(40)
    desk.receive(C, content=C)
    desk.clock.forward(5)
    assert longest_wait_s(desk.database, desk.clock()) == 45
    desk.screen(B)
    assert longest_wait_s(desk.database, desk.clock()) == 5
    desk.claim(C)
    assert longest_wait_s(desk.database, desk.clock()) == 5


def waiting(desk: Ledger, alarm_after_s: float) -> CheckResult:
    settings = attrs.evolve(desk.settings, database=desk.database.url, alarm_after_s=alarm_after_s)
    return next(finding for finding in check(settings) if finding.what == "waiting")


@pytest.mark.parametrize("kind", ["sqlite"])
def test_the_checkup_fails_when_a_study_waits_too_long(desk: Ledger) -> None:
    desk.receive()
    late = waiting(desk, 60.0)
    assert not late.is_well
    assert "SCREENING_ALARM_AFTER_S" in late.message
    assert late.value_s is not None
    assert late.value_s > 60
    assert waiting(desk, 1e9).is_well
    desk.screen()
    assert waiting(desk, 60.0) == CheckResult("waiting", True, "no study waits", 0.0)


@contextmanager
def silent_server() -> Iterator[tuple[int, list[object]]]:
    """A port at which connections end without an answer, and those that came."""
    came: list[object] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with suppress(OSError):  # the end of the test
                while True:
                    connection, _ = listener.accept()
                    came.append(connection)
                    connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1], came
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.parametrize("kind", ["sqlite"])
def test_a_database_that_does_not_answer_is_asked_once(desk: Ledger) -> None:
    with silent_server() as (port, came):
        url = f"postgresql+psycopg://screening@127.0.0.1:{port}/screening?sslmode=disable&gssencmode=disable"
        findings = check(attrs.evolve(desk.settings, database=url, send="ARCHIVE@127.0.0.1:104"))
    assert len(came) == 1
    said = {finding.what: finding.message for finding in findings if not finding.is_well}
    assert said.keys() == {"database", "model", "provider", "page", "waiting"}
    assert "not known, because the database could not be asked" in said["model"]
    assert {finding.what for finding in findings} >= {"broker", "decoder", "store", "disk"}
