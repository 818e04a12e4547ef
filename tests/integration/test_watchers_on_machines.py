"""Two watchers of one inbox on machines whose clocks differ by minutes: no file is booked twice, and none is lost."""

from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import attrs
import pytest
from sqlalchemy import text

from schema.setting_values import InboxMode
from tests.ledger import Ledger
from tests.watched_inbox import WatchedInbox, another
from worker.intake.held_file import Step
from worker.ledger.intake import inbox_shares
from worker.monitoring.reconciliation import reconcile
from worker.store import OBJECTS

pytestmark = pytest.mark.slow

FOLDERS, EACH = 8, 2

#: Both clocks are wrong by this much, one in each direction.
WRONG_BY_S = 180.0


class Machine(WatchedInbox):
    """A watcher on a machine of its own, by its name, its process numbers and its clock."""

    def __init__(self, desk: Ledger, inbox: Path, name: str, ahead_s: float) -> None:
        self.name, self.ahead = name, timedelta(seconds=ahead_s)
        super().__init__(desk, inbox)
        self.be_another_machine()

    def be_another_machine(self) -> None:
        """From its own start on."""
        watcher, lease = self.watcher, self.watcher.division.lease
        assert lease is not None
        watcher.clock = watcher.division.clock = watcher.signs.clock = self.now
        watcher.division.lease = replace(lease, host=self.name)

    def now(self) -> datetime:
        """What its clock says."""
        return self.desk.clock() + self.ahead

    def look(self) -> None:
        """Scan, and be no process of this machine in the ledger."""
        self.watcher.scan()
        with self.desk.database.writing() as session:
            values = {"space": self.name[:16], "host": self.name}
            session.execute(text("UPDATE inbox_watcher SET pid_space = :space WHERE host = :host"), values)


@pytest.fixture(params=[WRONG_BY_S, -WRONG_BY_S, 0.0], ids=["first-ahead", "first-behind", "both-right"])
def machines(request: pytest.FixtureRequest, desk: Ledger, tmp_path: Path) -> tuple[Machine, Machine]:
    desk.settings = attrs.evolve(desk.settings, broker="redis://queue/0")
    wrong_s: float = request.param
    return Machine(desk, tmp_path / "inbox", "north", wrong_s), Machine(desk, tmp_path / "inbox", "south", -wrong_s)


def drop(machine: Machine, first: int = 0) -> None:
    for number in range(first, first + FOLDERS * EACH):
        machine.drop(f"ward {number % FOLDERS}/{number}.dcm", another(number))


def arrivals(desk: Ledger) -> Counter[str]:
    with desk.database.reading() as connection:
        return Counter(connection.scalars(text("SELECT state FROM arrival")))


def is_whole(desk: Ledger, images: int) -> bool:
    """Whether the ledger's sums hold, and each image is there once, with its bytes."""
    with desk.database.reading() as connection:
        rows = connection.execute(text("SELECT sop_instance_uid, digest, crc, left_at FROM instance")).all()
    for row in rows:
        if row.left_at is None:
            desk.store.get(OBJECTS, row.digest, row.crc)
    is_once = len(rows) == len({row.sop_instance_uid for row in rows}) == images
    return is_once and reconcile(desk.database, desk.store).holds


@pytest.mark.parametrize("mode", list(InboxMode))
def test_clocks_that_differ_by_six_minutes_book_no_file_twice_and_lose_none(
    machines: tuple[Machine, Machine], mode: InboxMode
) -> None:
    north, south = machines
    desk = north.desk
    for machine in machines:
        machine.start(inbox_mode=mode)
        machine.be_another_machine()
    drop(north)
    for turn in range(8):
        for machine in machines if turn % 2 else machines[::-1]:
            machine.look()
            desk.clock.forward(6)
        if turn == 3:
            drop(south, FOLDERS * EACH)
    assert arrivals(desk) == {"accepted": 2 * FOLDERS * EACH}
    assert is_whole(desk, 2 * FOLDERS * EACH)
    assert len(north.left()) == (0 if mode is InboxMode.MOVE else 2 * FOLDERS * EACH)


def test_a_machine_that_stops_for_long_while_it_books_books_nothing_of_what_the_other_took_over(
    machines: tuple[Machine, Machine],
) -> None:
    north, south = machines
    desk, stopped = north.desk, list[Step]()
    drop(north)
    for _ in range(2):
        for machine in machines:
            machine.look()

    def stop(step: Step) -> None:
        """Until the other machine has taken everything in."""
        if step is Step.STORED and not stopped:
            stopped.append(step)
            for _ in range(4):
                desk.clock.forward(desk.settings.lease_s + 11)
                south.look()

    north.watcher.intake = replace(north.watcher.intake, at_step=stop)
    for _ in range(4):
        desk.clock.forward(11)
        north.look()
    assert stopped
    assert arrivals(desk) == {"accepted": FOLDERS * EACH}
    assert is_whole(desk, FOLDERS * EACH)
    assert north.left() == []


def test_a_machine_that_is_lost_is_waited_for_and_then_replaced(machines: tuple[Machine, Machine]) -> None:
    """Its process number says nothing here, where another process may have it."""
    north, south = machines
    desk = north.desk
    drop(north)
    for machine in (*machines, *machines):
        machine.look()
        desk.clock.forward(desk.settings.heartbeat_s)
    with desk.database.writing() as session:
        session.execute(text("UPDATE inbox_watcher SET pid = 999999999 WHERE host = 'north'"))  # nobody's here
    for _ in range(4):
        south.look()
        desk.clock.forward(desk.settings.lease_s)
    held = {one.host: one.shares for one in inbox_shares.watcher_shares(desk.database)}
    assert held == {"south": inbox_shares.SHARES}
    assert arrivals(desk) == {"accepted": FOLDERS * EACH}
    assert is_whole(desk, FOLDERS * EACH)
