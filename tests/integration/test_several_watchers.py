"""Several watchers share an inbox: each file is booked once, whoever comes, goes, or is stopped for a while."""

import os
import socket
import subprocess
import sys
from collections import Counter
from contextlib import nullcontext
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
from sqlalchemy import Connection, text

from schema.setting_values import InboxMode, StoreLink
from schema.vocabulary import FileState, IdentifierMode
from tests.acceptance.installation import wait_until
from tests.ledger import Ledger
from tests.phantoms import dicom_file, picture
from tests.watched_inbox import WatchedInbox, another
from worker.errors import DatabaseUnavailable, ShareLost, StorageUnavailable
from worker.intake.folder_scan import Inbox, incoming
from worker.intake.held_file import Step
from worker.intake.inbox_division import HUNG_S
from worker.intake.ingest import Intake
from worker.intake.reader import IntakeRequest
from worker.ledger.intake import inbox_shares
from worker.ledger.intake.inbox_shares import NAMED_FOR, SHARES, WatcherLease
from worker.ledger.transactions import writing
from worker.monitoring.inbox_watchers import check_watchers, metrics
from worker.monitoring.reconciliation import reconcile
from worker.store import OBJECTS
from worker.store.folder import FolderStore

FOLDERS, EACH = 8, 2


class TwoWatchers:
    """Two watchers of one inbox, ledger and store, which share a broker."""

    def __init__(self, desk: Ledger, folder: Path, **settings: Any) -> None:
        desk.settings = attrs.evolve(desk.settings, broker="redis://queue/0", **settings)
        self.desk, self.inbox = desk, folder / "inbox"
        self.one, self.two = (WatchedInbox(desk, self.inbox) for _ in range(2))

    def settle(self) -> None:
        """Until each has its part."""
        for watched in (self.one, self.two, self.one, self.two):
            watched.watcher.scan()
            self.desk.clock.forward(self.desk.settings.heartbeat_s)

    def drop(self) -> list[Path]:
        """Files in many folders, two of them with STAT studies."""
        below = [f"{'stat/' if number < 2 else ''}ward {number}" for number in range(FOLDERS)]
        names = [f"{folder}/{number}.dcm" for folder in below for number in range(EACH)]
        return [self.one.drop(name, another(number)) for number, name in enumerate(names)]

    def arrivals(self) -> Counter[str]:
        with self.desk.database.reading() as connection:
            return Counter(connection.scalars(text("SELECT state FROM arrival")))

    def shares(self) -> list[int]:
        return [len(watched.watcher.division.held) for watched in (self.one, self.two)]

    def is_whole(self) -> bool:
        """Whether the ledger's sums hold, and each image is in the store with its bytes."""
        with self.desk.database.reading() as connection:
            images = connection.execute(text("SELECT digest, crc, left_at FROM instance")).all()
        for digest, crc, left_at in images:
            if left_at is None:
                self.desk.store.get(OBJECTS, digest, crc)
        return len(images) == FOLDERS * EACH and reconcile(self.desk.database, self.desk.store).holds


@pytest.fixture
def both(desk: Ledger, tmp_path: Path) -> TwoWatchers:
    return TwoWatchers(desk, tmp_path)


@pytest.mark.parametrize("mode", list(InboxMode))
def test_each_file_is_booked_once_and_by_one_of_them(desk: Ledger, tmp_path: Path, mode: InboxMode) -> None:
    both = TwoWatchers(desk, tmp_path, inbox_mode=mode)
    both.settle()
    assert both.shares() == [SHARES // 2] * 2
    both.drop()
    for after_s in (0, 11, 1, 700):  # the last one checks every file again
        desk.clock.forward(after_s)
        both.one.watcher.scan()
        both.two.watcher.scan()
    assert both.arrivals() == {"accepted": FOLDERS * EACH}
    assert both.is_whole()
    assert len(both.one.left()) == (0 if mode is InboxMode.MOVE else FOLDERS * EACH)
    with desk.database.reading() as connection:
        urgent = connection.execute(text("SELECT COUNT(*) FROM study WHERE priority = 'stat'")).scalar_one()
    assert urgent == 2 * EACH


@pytest.mark.parametrize("kind", ["sqlite"])
def test_pseudonyms_of_paths_divide_an_inbox_too(desk: Ledger, tmp_path: Path) -> None:
    both = TwoWatchers(desk, tmp_path, identifiers=IdentifierMode.PSEUDONYMS, inbox_mode=InboxMode.COPY)
    both.settle()
    both.drop()
    for _ in range(2):
        both.one.watcher.scan()
        both.two.watcher.scan()
        desk.clock.forward(11)
    assert both.arrivals() == {"accepted": FOLDERS * EACH}
    assert both.is_whole()


def test_a_file_that_another_watcher_has_just_seen_is_not_vanished(both: TwoWatchers) -> None:
    """One lists the inbox, files come, the other notes that they wait, then the first looks for what is gone."""
    both.settle()
    calls = iter(range(100))

    def steady_s() -> float:
        if next(calls) == 1:  # it has just listed the inbox
            both.drop()
            both.two.watcher.scan()
        return both.desk.clock().timestamp()

    both.one.watcher.steady_s = steady_s
    both.one.watcher.scan()
    seen = both.arrivals()
    assert 0 < seen["waiting"] == seen.total()
    for after_s in (0, 11):
        both.desk.clock.forward(after_s)
        both.one.watcher.scan()
        both.two.watcher.scan()
    assert both.arrivals() == {"accepted": FOLDERS * EACH}


@pytest.mark.parametrize("mode", list(InboxMode))
def test_the_shares_of_a_lapsed_watcher_are_taken_over_with_what_it_had_booked(
    desk: Ledger, tmp_path: Path, mode: InboxMode
) -> None:
    both = TwoWatchers(desk, tmp_path, inbox_mode=mode)
    both.settle()
    both.drop()
    both.one.watcher.scan()
    both.two.watcher.scan()
    desk.clock.forward(11)
    both.one.watcher.scan()  # books its part, and gives no sign any more
    booked = both.arrivals()["accepted"]
    assert 0 < booked < FOLDERS * EACH
    desk.clock.forward(desk.settings.lease_s)
    for _ in range(3):
        both.two.watcher.scan()
        desk.clock.forward(11)
    assert both.shares()[1] == SHARES
    assert both.arrivals() == {"accepted": FOLDERS * EACH}
    assert both.is_whole()


def test_a_watcher_that_was_stopped_for_long_books_nothing_of_what_was_taken_over(both: TwoWatchers) -> None:
    desk, stopped = both.desk, list[Step]()
    both.settle()
    both.drop()
    both.one.watcher.scan()
    both.two.watcher.scan()

    def stop(step: Step) -> None:
        """The first is stopped, with its first file read and stored, until the other has taken everything in."""
        if step is not Step.STORED or stopped:
            return
        stopped.append(step)
        desk.clock.forward(desk.settings.lease_s + 11)
        for _ in range(3):
            both.two.watcher.scan()
            desk.clock.forward(11)

    both.one.watcher.intake = replace(both.one.watcher.intake, at_step=stop)
    desk.clock.forward(11)
    assert both.one.watcher.scan() is False
    assert stopped
    assert both.arrivals() == {"accepted": FOLDERS * EACH}
    assert both.is_whole()
    assert both.one.left() == []
    both.settle()
    assert both.shares() == [SHARES // 2] * 2, "it takes part again"
    assert both.arrivals() == {"accepted": FOLDERS * EACH}


@pytest.mark.parametrize("mode", [InboxMode.COPY, InboxMode.LEAVE])
def test_what_others_booked_while_a_watcher_was_stopped_is_not_booked_again(
    desk: Ledger, tmp_path: Path, mode: InboxMode
) -> None:
    both = TwoWatchers(desk, tmp_path, inbox_mode=mode)
    both.one.watcher.scan()
    assert both.shares() == [SHARES, 0]
    desk.clock.forward(desk.settings.lease_s + 1)
    both.drop()
    with both.two.watcher.division.kept():
        both.two.watcher.scan()
        desk.clock.forward(11)
        both.two.watcher.scan()
    assert both.arrivals() == {"accepted": FOLDERS * EACH}
    for _ in range(2):
        both.one.watcher.scan()
        desk.clock.forward(11)
    assert both.shares()[0] == SHARES
    assert both.arrivals() == {"accepted": FOLDERS * EACH}


@pytest.mark.parametrize("kind", ["sqlite"])
def test_a_watcher_that_hangs_in_the_file_system_lets_its_lease_lapse(both: TwoWatchers) -> None:
    division, clock, asked = both.one.watcher.division, both.desk.clock, list[float]()
    both.one.watcher.scan()
    division.heartbeat_s = 0.01

    def steady_s() -> float:
        """Asked once a heartbeat."""
        asked.append(clock().timestamp())
        return asked[-1]

    def let_two_heartbeats_begin() -> None:
        """So one that begins now has ended."""
        before = len(asked)
        wait_until(lambda: len(asked) >= before + 2, 60)

    def is_prolonged() -> bool:
        (found,) = inbox_shares.watcher_shares(both.desk.database)
        return found.lease_until == clock() + timedelta(seconds=both.desk.settings.lease_s)

    division.steady_s = steady_s
    with division.kept():
        clock.forward(20)
        wait_until(is_prolonged, 30)
        clock.forward(HUNG_S)
        let_two_heartbeats_begin()  # the first may have been asked before
        clock.forward(20)
        let_two_heartbeats_begin()
        assert not is_prolonged()
        division.note_progress()
        wait_until(is_prolonged, 30)


@pytest.mark.parametrize("mode", [InboxMode.MOVE, InboxMode.COPY])
def test_a_watcher_that_cannot_store_leaves_its_folders_to_others_until_it_can(
    desk: Ledger, tmp_path: Path, mode: InboxMode
) -> None:
    """As when its own mount of the store is gone."""
    both = TwoWatchers(desk, tmp_path, inbox_mode=mode)
    (tmp_path / "no mount").touch()
    both.settle()
    both.drop()
    able = both.one.watcher.intake
    both.one.watcher.intake = replace(able, store=FolderStore(tmp_path / "no mount" / "store"))
    for outages in range(5):
        scan_in_outage(both, is_out=outages > 0)
    assert both.shares() == [0, SHARES], "it does not come back while it cannot store"
    assert both.arrivals() == {"accepted": FOLDERS * EACH}
    assert both.is_whole()
    both.one.watcher.intake = able
    both.settle()
    both.settle()
    assert both.shares() == [SHARES // 2] * 2
    assert both.arrivals() == {"accepted": FOLDERS * EACH}


class FaultyStore(FolderStore):
    """One of its folders cannot be written."""

    def draft(self, kind: str) -> Path:  # noqa: ARG002
        raise StorageUnavailable("cannot write to the store (Input/output error)")


@pytest.mark.parametrize("kind", ["sqlite"])
def test_a_watcher_that_can_store_keeps_its_folders_although_a_file_meets_a_fault_of_the_store(
    desk: Ledger, tmp_path: Path
) -> None:
    """The other one would meet it too, and in the end nobody would take in anything."""
    both = TwoWatchers(desk, tmp_path, store_link=StoreLink.OFF)
    both.settle()
    both.drop()
    both.one.watcher.intake = replace(both.one.watcher.intake, store=FaultyStore(desk.store.folder))
    for outages in range(4):
        scan_in_outage(both, is_out=outages > 0)
    assert both.shares() == [SHARES // 2] * 2


def test_a_watcher_that_cannot_list_the_inbox_leaves_it_to_others(both: TwoWatchers, tmp_path: Path) -> None:
    both.settle()
    both.drop()
    listed = both.one.watcher.inbox
    both.one.watcher.inbox = Inbox(tmp_path / "no mount", is_ours=both.one.watcher.division.is_ours)
    for _ in range(4):
        scan_in_outage(both, is_out=True)
    assert both.shares() == [0, SHARES]
    assert both.arrivals() == {"accepted": FOLDERS * EACH}
    both.one.watcher.inbox = listed
    both.settle()
    both.settle()
    assert both.shares() == [SHARES // 2] * 2


@pytest.mark.parametrize("kind", ["sqlite"])
def test_a_watcher_that_cannot_store_gives_its_folders_back_by_itself(both: TwoWatchers, tmp_path: Path) -> None:
    """Although it runs on, and its thread prolongs what it has."""
    (tmp_path / "no mount").touch()
    both.desk.clock.forward(11)
    both.one.watcher.scan()
    both.one.drop("ward/a.dcm", another(1))
    both.one.watcher.scan()
    both.desk.clock.forward(11)
    both.one.watcher.intake = replace(both.one.watcher.intake, store=FolderStore(tmp_path / "no mount" / "store"))
    both.one.watcher.division.heartbeat_s = 0.01
    with both.one.watcher.division.kept():
        with pytest.raises(StorageUnavailable):
            both.one.watcher.scan()
        both.two.watcher.scan()
        assert both.shares() == [0, SHARES]
    assert both.shares() == [0, SHARES]


@pytest.mark.parametrize("kind", ["sqlite"])
def test_a_watcher_that_stands_aside_tries_the_store_once_a_heartbeat(both: TwoWatchers) -> None:
    """Although it scans more often: each proof writes to the store. Meanwhile it says what the last one met."""
    tried = list[datetime]()

    def prove_can_take_in() -> None:
        tried.append(both.desk.clock())
        raise StorageUnavailable("cannot write to the store (Input/output error)")

    watcher = both.one.watcher
    watcher.scan()
    watcher.division.prove_can_take_in = prove_can_take_in
    watcher.division.leave_if_unable()
    for _ in range(5):
        with pytest.raises(StorageUnavailable, match="Input/output error"):
            watcher.scan()
    assert len(tried) == 1
    both.desk.clock.forward(both.desk.settings.heartbeat_s)
    for _ in range(5):
        with pytest.raises(StorageUnavailable, match="Input/output error"):
            watcher.scan()
    assert len(tried) == 2
    watcher.division.prove_can_take_in = watcher.prove_can_take_in
    both.desk.clock.forward(both.desk.settings.heartbeat_s)
    watcher.scan()
    assert both.shares() == [SHARES, 0]


def scan_in_outage(both: TwoWatchers, *, is_out: bool) -> None:
    """Each scans; the first one meets an outage, or has nothing to store yet."""
    with pytest.raises(StorageUnavailable) if is_out else nullcontext():
        both.one.watcher.scan()
    both.two.watcher.scan()
    both.desk.clock.forward(11)


def test_the_files_of_one_long_folder_have_one_share(desk: Ledger, tmp_path: Path) -> None:
    both = TwoWatchers(desk, tmp_path)
    both.settle()
    division = both.one.watcher.division
    for number in range(20):
        folder = f"{both.inbox}/{number}/{'/'.join(['a long name of a folder'] * 90)}"
        ours = {division.has(division.spelled(f"{folder}/{file}.dcm")) for file in range(10)}
        assert ours == {division.is_ours(folder)}


def test_who_comes_gets_half_and_who_leaves_gives_all_back(both: TwoWatchers) -> None:
    both.one.watcher.scan()
    assert both.shares() == [SHARES, 0]
    both.settle()
    assert both.shares() == [SHARES // 2] * 2
    with both.two.watcher.division.kept():
        pass
    both.desk.clock.forward(both.desk.settings.heartbeat_s)
    both.one.watcher.scan()
    assert both.shares()[0] == SHARES


def test_a_killed_watcher_of_this_machine_is_not_waited_for(both: TwoWatchers) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    both.one.watcher.scan()
    with both.desk.database.writing() as session:
        session.execute(text("UPDATE inbox_watcher SET pid = :pid"), {"pid": ended.pid})
    both.two.watcher.scan()
    assert both.shares()[1] == SHARES


def test_one_watcher_with_a_private_broker_needs_no_rows(watched: WatchedInbox) -> None:
    watched.drop("ward/a.dcm", another(1))
    watched.scan()
    assert watched.scan(11) == {"accepted": 1}
    assert inbox_shares.watcher_shares(watched.desk.database) == []


@pytest.mark.parametrize("kind", ["postgresql"])
def test_nothing_is_taken_over_while_its_watcher_books(both: TwoWatchers) -> None:
    both.settle()
    clock = both.desk.clock
    division = both.one.watcher.division
    with writing(both.desk.database, division.guard):
        clock.forward(both.desk.settings.lease_s * 2)
        both.two.watcher.scan()
        assert both.shares()[1] == SHARES // 2, "it has not ended its transaction"
    clock.forward(both.desk.settings.heartbeat_s)
    both.two.watcher.scan()
    assert both.shares()[1] == SHARES
    with pytest.raises(ShareLost), writing(both.desk.database, division.guard):
        pass


@pytest.mark.parametrize("kind", ["postgresql"])
def test_a_watcher_that_is_stopped_while_it_books_does_not_keep_its_share_for_ever(desk: Ledger) -> None:
    lease_s = 0.5
    stopped, _ = inbox_shares.follow(desk.database, WatcherLease("/inbox", "here", os.getpid(), lease_s), desk.clock())
    others = [WatcherLease("/inbox", "there", os.getpid(), 60.0)]

    def is_taken_over() -> bool:
        lease, held = inbox_shares.follow(desk.database, others[-1], desk.clock() + timedelta(seconds=2 * lease_s))
        others.append(lease)
        return len(held) == SHARES

    def book() -> None:
        with writing(desk.database, partial(inbox_shares.require, lease=stopped)) as session:
            wait_until(is_taken_over, 30)
            session.execute(text("SELECT 1"))

    with pytest.raises(DatabaseUnavailable):
        book()


@pytest.mark.parametrize("kind", ["postgresql"])
def test_the_lease_is_prolonged_while_a_transaction_books(both: TwoWatchers) -> None:
    both.one.watcher.scan()
    lease = both.one.watcher.division.lease
    assert lease is not None
    later = both.desk.clock() + timedelta(minutes=1)
    with writing(both.desk.database, both.one.watcher.division.guard):
        inbox_shares.prolong(both.desk.database, lease, later)
    (found, *_) = inbox_shares.watcher_shares(both.desk.database)
    assert (found.shares, found.lease_until) == (SHARES, later + timedelta(seconds=lease.lease_s))


def test_a_watcher_that_was_removed_joins_anew_and_owns_nothing_of_before(desk: Ledger) -> None:
    lease, held = inbox_shares.follow(desk.database, WatcherLease("/inbox", "here", os.getpid(), 30.0), desk.clock())
    assert len(held) == SHARES
    desk.clock.forward(31)
    other, all_of_it = inbox_shares.follow(
        desk.database, WatcherLease("/inbox", "there", os.getpid(), 30.0), desk.clock()
    )
    again, held = inbox_shares.follow(desk.database, lease, desk.clock())
    assert (len(all_of_it), held, again.holder != lease.holder) == (SHARES, frozenset(), True)
    inbox_shares.leave(desk.database, lease, desk.clock())
    assert len(inbox_shares.follow(desk.database, other, desk.clock())[1]) == SHARES // 2


def test_check_and_metrics_say_who_takes_in_how_much(both: TwoWatchers) -> None:
    both.settle()
    in_force = attrs.evolve(both.desk.settings, database=both.desk.database.url)
    (words,) = check_watchers(in_force)
    assert words.startswith(f"{both.inbox}: ")
    assert words.count(f"{SHARES // 2} of {SHARES} shares") == 2
    assert words.count("has given no sign since 2026-03-02") == 2
    with both.two.watcher.division.kept():
        pass
    assert f"nobody takes in {SHARES // 2} of {SHARES} shares" in check_watchers(in_force)[0]
    with both.desk.database.reading() as connection:
        (shares,) = metrics(connection)
    found = {(sample.labels["inbox"], sample.labels["host"]): sample.value for sample in shares.samples}
    half = SHARES // 2
    assert found == {(str(both.inbox), socket.gethostname()[:64]): half, (str(both.inbox), "nobody"): half}
    assert check_watchers(attrs.evolve(in_force, broker="")) == []


def test_an_inbox_that_is_watched_no_more_is_named_for_a_week(desk: Ledger) -> None:
    """Whether its last watcher has ended, or was killed; a watcher of another inbox then removes its rows."""
    ended, _ = inbox_shares.follow(desk.database, WatcherLease("/ended", "here", os.getpid(), 30.0), desk.clock())
    inbox_shares.leave(desk.database, ended, desk.clock())
    inbox_shares.follow(desk.database, WatcherLease("/killed", "there", os.getpid(), 30.0), desk.clock())
    in_force = attrs.evolve(desk.settings, database=desk.database.url, broker="redis://queue/0")

    def named() -> list[str]:
        inbox_shares.follow(desk.database, WatcherLease("/watched", "here", os.getpid(), 30.0), desk.clock())
        return [words.partition(": ")[0] for words in check_watchers(in_force)]

    assert named() == ["/ended", "/killed", "/watched"]
    gone, *_ = check_watchers(in_force)
    assert f"nobody takes in {SHARES} of {SHARES} shares" in gone
    desk.clock.forward(hours=24 * NAMED_FOR.days - 1)
    assert named() == ["/ended", "/killed", "/watched"]
    desk.clock.forward(hours=2)
    assert named() == ["/watched"]
    _, held = inbox_shares.follow(desk.database, WatcherLease("/killed", "there", os.getpid(), 30.0), desk.clock())
    assert len(held) == SHARES, "it can be watched again"


def test_shares_without_any_watcher_are_removed(desk: Ledger) -> None:
    """As a watcher that ended left them before its row was kept."""
    with desk.database.writing() as session:
        session.execute(
            text("INSERT INTO inbox_share (inbox, share, holder) VALUES ('/old', 0, NULL), ('/old', 1, 'x')")
        )
    inbox_shares.follow(desk.database, WatcherLease("/watched", "here", os.getpid(), 30.0), desk.clock())
    assert {found.inbox for found in inbox_shares.watcher_shares(desk.database)} == {"/watched"}


def test_a_watcher_takes_everything_in_whichever_rows_of_shares_are_there(desk: Ledger) -> None:
    with desk.database.writing() as session:
        session.execute(text("INSERT INTO inbox_share (inbox, share) VALUES ('/inbox', 3)"))
    _, held = inbox_shares.follow(desk.database, WatcherLease("/inbox", "here", os.getpid(), 30.0), desk.clock())
    assert len(held) == SHARES


def test_who_comes_after_the_last_one_has_ended_waits_for_nothing(desk: Ledger) -> None:
    """Also where its clock is three minutes behind."""
    ended, _ = inbox_shares.follow(desk.database, WatcherLease("/inbox", "here", os.getpid(), 30.0), desk.clock())
    inbox_shares.leave(desk.database, ended, desk.clock())
    desk.clock.forward(-180)
    _, held = inbox_shares.follow(desk.database, WatcherLease("/inbox", "there", os.getpid(), 30.0), desk.clock())
    assert len(held) == SHARES


@pytest.mark.parametrize("kind", ["postgresql"])
@pytest.mark.parametrize("files", [1, 3])
def test_two_copies_of_an_image_that_are_booked_at_the_same_time_are_compared(
    desk: Ledger, tmp_path: Path, files: int
) -> None:
    """Of two watchers each has one: the pixels are the same, so it is no conflict."""
    ours, theirs = tmp_path / "ours.dcm", tmp_path / "theirs.dcm"
    ours.write_bytes(dicom_file(picture(), PatientID="P-1", OperatorsName="A"))
    theirs.write_bytes(dicom_file(picture(), PatientID="P-1", OperatorsName="B"))
    requests, done = [request_of(ours)], list[FileState]()
    for number in range(1, files):
        path = tmp_path / f"{number}.dcm"
        path.write_bytes(another(number))
        requests.append(request_of(path))

    def other_first(_: Connection) -> None:
        if not done:
            intake = Intake(desk.settings, desk.database, desk.store)
            done.extend(taken.booked.state for taken in intake.take_in_all([request_of(theirs)], desk.clock))

    intake = Intake(desk.settings, desk.database, desk.store, guard=other_first)
    booked = {taken.request.file.path: taken.booked for taken in intake.take_in_all(requests, desk.clock)}
    assert done == [FileState.ACCEPTED]
    first = booked.pop(str(ours))
    assert (first.state, "the same pixels" in first.message) == (FileState.DUPLICATE, True)
    assert [one.state for one in booked.values()] == [FileState.ACCEPTED] * (files - 1)
    assert reconcile(desk.database, desk.store).holds


def request_of(path: Path) -> IntakeRequest:
    file = incoming(path)
    assert file is not None
    return IntakeRequest(file, path.parent, is_final=True, is_settled=True)
