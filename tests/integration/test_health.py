"""The alarm for every cause: a study waits too long for its result."""

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
