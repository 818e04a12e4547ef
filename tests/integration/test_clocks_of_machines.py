"""Machines with wrong clocks: leases go by the database's, and each machine is told of its own."""

import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import attrs
import pytest
from sqlalchemy import text

from tests.brightness_model import write_model
from tests.ledger import STUDY, Ledger, claim_one
from tests.watched_inbox import WatchedInbox, another
from worker.errors import StorageUnavailable
from worker.inference.model import open_model
from worker.intake.sweep import sweep
from worker.intake.watcher import Watcher
from worker.ledger.clocks import now
from worker.ledger.database_clock import ComparedClock, database_now
from worker.ledger.intake.inbox_shares import SHARES, watcher_shares
from worker.ledger.screening.message import screen_each
from worker.ledger.screening.outbox import Backlog
from worker.ledger.screening.results import Claim
from worker.monitoring.health import check_clock
from worker.monitoring.inbox_watchers import check_watchers
from worker.screen_study import Judgement, StudyScreener

WEEK_S = 7 * 86400.0
LONG_S = 150.0


def watcher_of_a_machine(desk: Ledger, inbox: Path, ahead_s: float) -> Watcher:
    """As `worker watch` makes it on a machine whose clock is ahead, and whose processes nobody else sees."""
    watched = WatchedInbox(desk, inbox)
    wrong = ComparedClock(desk.database, lambda: now() + timedelta(seconds=ahead_s))
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
        (15.0, "1[456] s ahead of the database's.*by NTP"),
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
    clock = ComparedClock(desk.database, lambda: next(moments))
    clock()
    assert clock.agrees


@dataclass(frozen=True)
class WatchedScreener(StudyScreener):
    """A worker on whose study another machine's watcher sweeps, once its lease was renewed."""

    sweep: Callable[[], None] = lambda: None
    held: list[bool] = field(default_factory=list)

    def judge(self, claim: Claim) -> Judgement:
        first, end_s = self.lease(claim), time.monotonic() + LONG_S
        while self.lease(claim) == first and time.monotonic() < end_s:
            time.sleep(0.01)
        self.sweep()
        self.held.append(self.lease(claim) is not None)
        raise StorageUnavailable("it was seen long enough")

    def lease(self, claim: Claim) -> datetime | None:
        """The end of a claim's lease; None when it was taken back."""
        held = text("SELECT lease_until FROM study WHERE claim = :token")
        with self.database.reading() as connection:
            moment: datetime | None = connection.execute(held, {"token": claim.token}).scalar_one_or_none()
            return moment


@pytest.mark.parametrize("kind", ["postgresql"])
@pytest.mark.parametrize(("wrong", "ahead_s"), [("worker", -60.0), ("watcher", -WEEK_S)])
def test_a_claim_holds_whatever_the_clocks_of_worker_and_watcher_say(
    desk: Ledger, tmp_path: Path, ahead_s: float, wrong: str
) -> None:
    def clock_of(machine: str) -> datetime:
        return now() + timedelta(seconds=ahead_s if machine == wrong else 0.0)

    settings = attrs.evolve(desk.settings, heartbeat_s=0.01)
    desk.receive()
    desk.offer()
    screener = WatchedScreener(
        settings, desk.database, desk.store, open_model(write_model(tmp_path / "brightness.onnx"), provider="cpu"),
        partial(clock_of, "worker"),
        sweep=lambda: sweep(desk.database, settings, lambda _: None, Backlog, clock_of("watcher")),
    )  # fmt: skip
    screen_each(screener, [STUDY], now(), None)
    assert screener.held == [True]


@pytest.mark.parametrize("kind", ["postgresql"])
def test_a_claim_lapses_by_the_clock_of_the_database(desk: Ledger) -> None:
    desk.receive()
    desk.offer()
    claimed_at = now() - timedelta(seconds=desk.settings.lease_s + 1)
    assert claim_one(desk.database, STUDY, desk.settings, claimed_at) is not None
    sweep(desk.database, desk.settings, lambda _: None, Backlog, now() - timedelta(seconds=60))
    assert desk.study().state == "queued"
