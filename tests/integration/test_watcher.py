"""The inbox, scan by scan, with a controlled clock: no file is taken too early, lost, or taken twice."""

import itertools
import os
import tempfile
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import text

from schema.vocabulary import FileState, Priority, ReviewOutcome
from tests.acceptance.house import wait_until
from tests.desk import Desk, without_privileges
from tests.phantoms import STUDY_UID, dicom_file, picture
from tests.yard import CHEST, Yard, another
from worker.errors import BadSetting, BrokerUnavailable, StorageUnavailable
from worker.intake.folder_scan import FULL_SCAN_S, Inbox, Listing, files_in, incoming, remove_if_unchanged
from worker.ledger import decisions
from worker.monitoring.reconciliation import reconcile
from worker.settings import InboxMode
from worker.store.fetch import fetch
from worker.worklist.queries import quarantine


def test_a_file_is_taken_once_it_has_not_changed_for_the_quiet_time(yard: Yard) -> None:
    yard.drop("a.dcm", CHEST[:2000])
    assert yard.scan() == {"waiting": 1}
    yard.drop("a.dcm", CHEST[:4000])
    assert yard.scan(9) == {"waiting": 1}
    yard.drop("a.dcm", CHEST)
    assert yard.scan(9) == {"waiting": 1}
    assert yard.scan(9) == {"waiting": 1}
    assert yard.left() == ["a.dcm"]
    assert yard.scan(1) == {"accepted": 1}
    assert yard.left() == []
    assert yard.desk.entry(STUDY_UID).sources == [str(yard.inbox / "a.dcm")]


def test_a_file_that_stays_broken_is_quarantined_in_the_end_and_shows_on_its_study(yard: Yard) -> None:
    yard.drop("half.dcm", CHEST[:-1000])
    yard.drop("letter.txt", b"Dear colleague")
    yard.drop("empty.dcm", b"")
    yard.scan()
    assert yard.scan(299) == {"waiting": 3}
    assert yard.scan(1) == {"quarantined": 3}
    codes = {Path(f.path).name: (f.code, f.study_uid) for f in quarantine(yard.desk.database)}
    assert codes == {
        "half.dcm": ("truncated", STUDY_UID), "letter.txt": ("not_an_image", None), "empty.dcm": ("truncated", None),
    }  # fmt: skip
    assert yard.left() == [], "their bytes are in the store"


def test_a_broken_file_that_is_completed_in_time_is_taken(yard: Yard) -> None:
    yard.drop("a.dcm", CHEST[:-1000])
    yard.scan()
    assert yard.scan(200) == {"waiting": 1}
    yard.drop("a.dcm", CHEST)
    assert yard.scan(200) == {"waiting": 1}
    assert yard.scan(10) == {"accepted": 1}


def test_files_that_vanish_are_booked_even_when_the_watcher_was_away(yard: Yard) -> None:
    first, second = yard.drop("a.dcm"), yard.drop("b.dcm", another(1))
    yard.scan()
    first.unlink()
    assert yard.scan(5) == {"vanished": 1, "waiting": 1}
    second.unlink()
    yard.start()
    assert yard.scan(5) == {"vanished": 2}


def test_a_file_that_vanished_is_taken_when_it_comes_back_as_it_was(yard: Yard) -> None:
    path, away = yard.drop("a.dcm"), yard.inbox.with_name("away")
    yard.scan()
    steady_s, asked = yard.watcher.steady_s, itertools.count()

    def taken_away_once_it_was_seen() -> float:
        if next(asked) == 1:
            path.rename(away)
        return steady_s()

    yard.watcher.steady_s = taken_away_once_it_was_seen
    assert yard.scan(10) == {"vanished": 1}
    away.rename(path)
    assert yard.scan() == {"vanished": 1, "waiting": 1}
    assert yard.scan(10) == {"vanished": 1, "accepted": 1}
    assert yard.left() == []


def test_unfinished_and_hidden_names_are_passed_over(yard: Yard) -> None:
    for name in (".hidden.dcm", "a.dcm.partial", "b.PART", "c.tmp", "d.filepart", ".trash/e.dcm"):
        yard.drop(name)
    yard.scan()
    assert yard.scan(60) == {}
    assert len(yard.left()) == 6


def test_one_bad_file_stops_nothing(yard: Yard) -> None:
    yard.drop("0.dcm", b"no radiograph")
    (yard.inbox / "1.dcm").mkdir()
    yard.drop("1.dcm/inside.dcm", another(1))
    os.mkfifo(yard.inbox / "2.dcm")
    (yard.inbox / "3.dcm").symlink_to(yard.inbox / "nowhere")
    yard.drop(os.fsdecode(b"4\xff.dcm"), another(4))
    yard.drop("9.dcm", another(9))
    yard.scan()
    assert yard.scan(10) == {"accepted": 3, "waiting": 3}
    assert yard.scan(300) == {"accepted": 3, "quarantined": 3}
    assert yard.left() == ["2.dcm", "3.dcm"], "what could not be kept is not removed"
    assert yard.scan(300) == {"accepted": 3, "quarantined": 3}


@pytest.mark.parametrize("mode", [InboxMode.COPY, InboxMode.LEAVE])
def test_files_that_stay_are_taken_once(yard: Yard, mode: InboxMode) -> None:
    yard.start(inbox_mode=mode)
    path = yard.drop("a.dcm")
    yard.scan()
    assert yard.scan(10) == {"accepted": 1}
    assert yard.scan(10) == {"accepted": 1}
    yard.start()
    yard.scan()
    assert yard.scan(60) == {"accepted": 1}, "a new process knows it"
    assert yard.left() == ["a.dcm"]
    (received,) = yard.desk.claim(STUDY_UID).received
    assert (received.left_at == str(path)) is (mode is InboxMode.LEAVE)
    assert fetch(yard.desk.store, received.digest, received.left_at) == CHEST
    path.with_suffix(".tmp").write_bytes(CHEST)
    path.with_suffix(".tmp").replace(path)
    yard.scan()
    assert yard.scan(10) == {"accepted": 1, "duplicate": 1}, "another file of this name"
    path.touch()
    yard.scan(FULL_SCAN_S)
    assert yard.scan(10) == {"accepted": 1, "duplicate": 2}, "written to where it lies"


def test_left_files_are_safe_when_the_mode_becomes_move(yard: Yard) -> None:
    yard.start(inbox_mode=InboxMode.LEAVE)
    yard.drop("a.dcm")
    yard.scan()
    yard.scan(10)
    yard.start(inbox_mode=InboxMode.MOVE)
    yard.scan()
    assert yard.scan(10) == {"accepted": 1, "duplicate": 1}
    assert yard.left() == []
    yard.desk.clock.forward(60)
    (received,) = yard.desk.claim(STUDY_UID).received
    assert fetch(yard.desk.store, received.digest, received.left_at) == CHEST


def test_a_file_written_to_while_it_is_booked_is_not_removed(yard: Yard) -> None:
    path = yard.drop("a.dcm")
    seen = incoming(path)
    assert seen is not None
    path.write_bytes(another(1))
    os.utime(path, ns=(0, seen.mtime_ns + 1))
    assert remove_if_unchanged(seen) is False
    assert yard.left() == ["a.dcm"]


def test_a_file_that_cannot_be_removed_is_left_and_said(caplog: pytest.LogCaptureFixture) -> None:
    folder = Path(tempfile.mkdtemp())
    path = folder / "a.dcm"
    path.write_bytes(CHEST)
    folder.chmod(0o555)
    seen = incoming(path)
    assert seen is not None
    with without_privileges():
        assert remove_if_unchanged(seen) is False
    assert path.exists()
    assert "file_not_removed" in caplog.messages


def test_the_stat_folder_makes_stat_studies(yard: Yard) -> None:
    for number, folder in enumerate(("stat", "STAT", "ward/Stat", "status", "stat.old")):
        yard.drop(f"{folder}/a.dcm", another(number))
    yard.scan()
    yard.scan(10)
    found = {e.study_uid: e.priority for e in yard.desk.worklist()}
    assert found == dict.fromkeys(("1.2.3.0", "1.2.3.1", "1.2.3.2"), "stat") | dict.fromkeys(
        ("1.2.3.3", "1.2.3.4"), "routine"
    )


def test_a_study_is_published_when_its_images_have_settled(yard: Yard) -> None:
    yard.drop("1.dcm")
    yard.scan()
    yard.scan(10)
    assert yard.sweep(30) == []
    yard.drop("2.dcm", dicom_file(picture()[::-1], SOPInstanceUID="1.2.3.4.5.7"))
    yard.scan()
    yard.scan(10)
    assert yard.sweep(59) == []
    assert yard.sweep(1) == [STUDY_UID]
    assert yard.sweep(100) == [STUDY_UID]
    assert len(yard.desk.claim(STUDY_UID).received) == 2


def test_a_broker_outage_loses_nothing(yard: Yard) -> None:
    for number in range(3):
        yard.drop(f"{number}.dcm", another(number))
    yard.scan()
    yard.scan(10)
    yard.is_broker_away = True
    with pytest.raises(BrokerUnavailable):
        yard.sweep(60)
    assert yard.published == []
    yard.is_broker_away = False
    assert yard.sweep(6) == [f"1.2.3.{n}" for n in range(3)]


def test_an_outage_is_told_when_it_begins_and_when_it_is_over(yard: Yard, caplog: pytest.LogCaptureFixture) -> None:
    yard.start(scan_interval_s=0.01)
    yard.drop("a.dcm")
    yard.scan()
    yard.scan(10)
    yard.desk.clock.forward(61)
    stop = threading.Event()
    thread = threading.Thread(target=yard.watcher.run, args=[stop])

    def has_been_met(is_away: bool) -> bool:
        yard.desk.clock.forward(0.05)
        return yard.refused >= 10 if is_away else "outage_over" in caplog.messages

    yard.is_broker_away = True
    with caplog.at_level("WARNING"):
        thread.start()
        for is_away in (True, False):
            yard.is_broker_away = is_away
            wait_until(partial(has_been_met, is_away), 60)
    stop.set()
    thread.join()
    assert caplog.messages.count("outage") == 1


def test_low_disk_stops_intake_and_it_resumes(yard: Yard) -> None:
    yard.drop("a.dcm")
    yard.scan()
    yard.start(min_free_mib=2**40)
    yard.scan()
    yard.desk.clock.forward(10)
    with pytest.raises(StorageUnavailable, match="MiB free"):
        yard.watcher.scan()
    assert yard.left() == ["a.dcm"]
    yard.start(min_free_mib=1)
    yard.scan()
    assert yard.scan(10) == {"accepted": 1}


def test_a_reached_quota_stops_intake_until_a_study_is_read(yard: Yard) -> None:
    desk = yard.desk
    desk.clock.now = datetime.now(UTC)  # that of the files in the store
    yard.start(store_quota_mib=1)
    yard.drop("large.dcm", dicom_file(picture(rows=1024, columns=600)))
    yard.scan()
    assert yard.scan(10) == {"accepted": 1}
    yard.drop("b.dcm", another(2))
    yard.scan()
    desk.clock.forward(hours=48)
    for work in (lambda: None, lambda: desk.screen(STUDY_UID)):
        work()  # screened or not: what is unread is not let go of
        desk.clock.forward(61)
        yard.watcher.make_room()
        with pytest.raises(StorageUnavailable, match="SCREENING_STORE_QUOTA_MIB is 1: intake stops"):
            yard.watcher.scan()
        assert yard.left() == ["b.dcm"]
    decisions.review(desk.database, STUDY_UID, ReviewOutcome.NO_PNEUMONIA, "Dr A", None, desk.clock())
    yard.start(scan_interval_s=0.05)
    run_for(yard, until=lambda: not yard.left())
    assert reconcile(desk.database, desk.store).files["accepted"] == 2


def test_an_inbox_that_cannot_be_listed_is_an_outage_and_nothing_vanishes(yard: Yard) -> None:
    yard.drop("a.dcm")
    assert yard.scan() == {"waiting": 1}
    away = yard.inbox.with_name("away")
    yard.inbox.rename(away)
    with pytest.raises(StorageUnavailable, match="inbox"):
        yard.watcher.scan()
    away.rename(yard.inbox)
    assert yard.scan(10) == {"accepted": 1}


class Bound(Inbox):
    """An inbox looked at by somebody whom permissions bind."""

    def scan(self) -> Listing:
        with without_privileges():
            return super().scan()


def test_what_lies_in_a_folder_that_cannot_be_listed_for_once_has_not_vanished(desk: Desk) -> None:
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yard = Yard(desk, folder / "inbox")
    yard.start(inbox_mode=InboxMode.COPY)
    yard.drop("ward/done.dcm")
    yard.scan()
    assert yard.scan(10) == {"accepted": 1}
    ward = yard.drop("ward/new.dcm", another(1)).parent
    yard.scan()
    yard.watcher.inbox = Bound(yard.inbox, yard.watcher.inbox.is_done, steady_s=yard.watcher.steady_s)
    ward.chmod(0)
    assert yard.scan() == {"accepted": 1, "waiting": 1}
    ward.chmod(0o755)
    assert yard.scan(10) == {"accepted": 2}, "and what was done is not taken in again"


def test_an_inbox_that_holds_the_state_folder_is_refused(yard: Yard) -> None:
    """In mode `move` the watcher would take the database itself."""
    with pytest.raises(BadSetting, match="SCREENING_HOME"):
        yard.start(home=yard.inbox / "state")
    yard.start(home=yard.inbox / ".screening")
    with pytest.raises(BadSetting, match="SCREENING_STORE"):
        yard.start(store=str(yard.inbox / "store"))


def run_for(yard: Yard, until: Callable[[], object]) -> None:
    """Run the watcher as a thread until `until()`."""
    stop = threading.Event()
    thread = threading.Thread(target=yard.watcher.run, args=[stop])
    thread.start()

    def later() -> bool:
        yard.desk.clock.forward(10)
        return bool(until())

    try:
        wait_until(later, 60)
    finally:
        stop.set()
        (yard.inbox / "wake").touch()
        thread.join()


def test_the_queue_is_served_while_intake_is_stopped(yard: Yard) -> None:
    """A full disk stops intake, and only intake: what is known goes on to its verdict."""
    yard.drop("a.dcm")
    yard.scan()
    yard.scan(10)
    yard.drop("b.dcm", another(1))
    yard.start(min_free_mib=2**40, scan_interval_s=0.05)
    run_for(yard, until=lambda: yard.published)
    assert STUDY_UID in yard.published


def test_events_wake_the_scan(yard: Yard) -> None:
    yard.start(scan_interval_s=60.0)
    threading.Timer(0.3, lambda: yard.drop("a.dcm")).start()
    run_for(yard, until=lambda: FileState.WAITING in reconcile(yard.desk.database, yard.desk.store).files)
    with yard.desk.database.reading() as connection:
        paths = connection.execute(text("SELECT path FROM arrival")).scalars().all()
    assert str(yard.inbox / "a.dcm") in paths


def test_files_come_in_order_of_path(yard: Yard) -> None:
    for name in ("b/2", "a", "b/1", "stat/0"):
        yard.drop(name)
    found = [(Path(f.path).relative_to(yard.inbox).as_posix(), f.priority) for f in files_in(yard.inbox)]
    routine = Priority.ROUTINE
    assert found == [("a", routine), ("b/1", routine), ("b/2", routine), ("stat/0", Priority.STAT)]


def test_a_link_to_itself_is_given_so_that_people_see_it(tmp_path: Path) -> None:
    (tmp_path / "loop.dcm").symlink_to(tmp_path / "loop.dcm")
    assert [Path(file.path).name for file in files_in(tmp_path)] == ["loop.dcm"]


def test_stat_studies_are_taken_in_before_others(yard: Yard) -> None:
    for name, number in (("a.dcm", 1), ("b.dcm", 2), ("z/stat/c.dcm", 3)):
        yard.drop(name, another(number))
    yard.scan()
    yard.scan(10)
    assert yard.sweep(60) == ["1.2.3.3", "1.2.3.1", "1.2.3.2"]


def test_a_long_backlog_is_taken_in_by_slices_and_swept_meanwhile(yard: Yard) -> None:
    """Whoever drops ten thousand files must not keep the queue, or a STAT study, waiting until the last is in."""
    for number in range(8):
        yard.drop(f"{number}.dcm", another(number))
    yard.scan()
    yard.desk.clock.forward(60)
    seconds = itertools.count(yard.desk.clock().timestamp(), 2)
    yard.watcher.steady_s = lambda: float(next(seconds))  # two seconds pass between two looks at the clock
    slices = 1
    while not yard.watcher.scan():
        slices += 1
        assert yard.left()
    assert slices > 1
    assert yard.left() == []


def test_what_is_done_in_an_unchanged_folder_is_not_asked_again(tmp_path: Path) -> None:
    """A share answers a thousand questions a second, and an inbox may hold hundreds of thousands of files."""
    for name in ("done", "new", "stat/done"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    now_s = 0.0
    inbox = Inbox(tmp_path, is_done=lambda path: path.endswith("done"), steady_s=lambda: now_s)

    def scan() -> tuple[list[str], int]:
        listing = inbox.scan()
        return [Path(file.path).name for file in listing.files], len(listing.paths)

    assert scan() == (["done", "new", "done"], 3), "the first look is a full one"
    now_s = 10.0
    assert scan() == (["new"], 3)
    now_s = 20.0
    assert scan() == (["new"], 3)
    (tmp_path / "stat" / "newer").write_bytes(b"")
    (tmp_path / "new").unlink()
    assert scan() == (["newer"], 3)
    now_s = FULL_SCAN_S
    assert scan() == (["done", "done", "newer"], 3)
