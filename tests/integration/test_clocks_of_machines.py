"""Machines with wrong clocks: the watchers of an inbox go by the database's, and each machine is told of its own."""

import re
from collections import Counter
from datetime import timedelta
from pathlib import Path

import attrs
import pytest
from sqlalchemy import text

from tests.ledger import Ledger
from tests.watched_inbox import WatchedInbox, another
from worker.intake.watcher import Watcher
from worker.ledger.clocks import now
from worker.ledger.database_clock import ComparedClock, agree_within_s, database_now
from worker.ledger.intake.inbox_shares import SHARES, watcher_shares
from worker.monitoring.health import check_clock
from worker.monitoring.inbox_watchers import check_watchers

WEEK_S = 7 * 86400.0


def watcher_of_a_machine(desk: Ledger, inbox: Path, ahead_s: float) -> Watcher:
    """As `worker watch` makes it on a machine whose clock is ahead, and whose processes nobody else sees."""
    watched = WatchedInbox(desk, inbox)
    wrong = ComparedClock(desk.database, agree_within_s(desk.settings), lambda: now() + timedelta(seconds=ahead_s))
    one = watched.watcher
    return Watcher(one.intake, inbox, one.enqueue, one.backlog, wrong.clock, one.steady_s, lease_clock=wrong)


@pytest.mark.parametrize("kind", ["postgresql"])
@pytest.mark.parametrize("ahead_s", [60.0, -60.0, WEEK_S, -WEEK_S])
def test_watchers_divide_an_inbox_whatever_their_own_clocks_say(
    desk: Ledger, tmp_path: Path, caplog: pytest.LogCaptureFixture, ahead_s: float
) -> None:
    desk.settings = attrs.evolve(desk.settings, broker="redis://queue/0")
    inbox = tmp_path / "inbox"
    watchers = [watcher_of_a_machine(desk, inbox, ahead) for ahead in (ahead_s, 0.0)]
    for number in range(8):
        (inbox / f"ward {number}").mkdir()
        (inbox / f"ward {number}" / "a.dcm").write_bytes(another(number))
    for _ in range(4):
        for watcher in watchers:
            watcher.scan()
        desk.clock.forward(desk.settings.heartbeat_s + 1)
    assert [len(watcher.division.held) for watcher in watchers] == [SHARES // 2] * 2
    with desk.database.reading() as connection:
        assert Counter(connection.scalars(text("SELECT state FROM arrival"))) == {"accepted": 8}
    assert [vars(record)["offset_s"] for record in caplog.records if record.msg == "clock_differs"] == [
        pytest.approx(ahead_s, abs=5)
    ]
    words = check_watchers(attrs.evolve(desk.settings, database=desk.database.url))
    assert "no sign since" not in words[0]


@pytest.mark.parametrize("kind", ["postgresql"])
@pytest.mark.parametrize("ahead_s", [2 * WEEK_S, -2 * WEEK_S])
def test_a_machine_whose_clock_is_wrong_by_weeks_removes_no_watcher_of_another_inbox(
    desk: Ledger, tmp_path: Path, ahead_s: float
) -> None:
    desk.settings = attrs.evolve(desk.settings, broker="redis://queue/0")
    right = watcher_of_a_machine(desk, tmp_path / "right", 0.0)
    right.scan()
    watcher_of_a_machine(desk, tmp_path / "wrong", ahead_s).scan()
    assert {found.inbox: found.shares for found in watcher_shares(desk.database)} == {
        str(tmp_path / inbox): SHARES for inbox in ("right", "wrong")
    }


@pytest.mark.parametrize("kind", ["postgresql"])
@pytest.mark.parametrize(
    ("ahead_s", "said"),
    [
        (0.0, "agrees"), (61.0, "6[01] s ahead of the database's"), (-WEEK_S, "s behind the database's"),
        (15.0, "1[456] s ahead of the database's.* the other way"),
    ],
)  # fmt: skip
def test_the_checkup_compares_this_clock_with_that_of_the_database(desk: Ledger, ahead_s: float, said: str) -> None:
    in_force = attrs.evolve(desk.settings, database=desk.database.url)
    (found,) = check_clock(in_force, lambda: now() + timedelta(seconds=ahead_s))
    assert found.is_well is (ahead_s == 0.0)
    assert re.search(said, found.message)


@pytest.mark.parametrize("kind", ["sqlite"])
def test_a_database_on_this_machine_has_its_clock(desk: Ledger) -> None:
    assert database_now(desk.database, desk.clock) == desk.clock()
    assert check_clock(attrs.evolve(desk.settings, database=desk.database.url)) == []


@pytest.mark.parametrize("kind", ["postgresql"])
def test_an_answer_that_takes_long_is_no_difference(desk: Ledger) -> None:
    """Asked a minute before it came, and another one after: none of both is the moment that was answered."""
    moments = iter([now() - timedelta(minutes=1), now() + timedelta(minutes=1)])
    clock = ComparedClock(desk.database, 20.0, lambda: next(moments))
    clock()
    assert clock.agrees
