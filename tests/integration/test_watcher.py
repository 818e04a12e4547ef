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

from schema.setting_values import InboxMode
from schema.vocabulary import FileState, Priority, ReviewOutcome
from tests.acceptance.installation import wait_until
from tests.ledger import Ledger, without_privileges
from tests.phantoms import STUDY_UID, dicom_file, picture
from tests.watched_inbox import CHEST, WatchedInbox, another
from worker.errors import BadSetting, BrokerUnavailable, StorageUnavailable
from worker.intake.folder_scan import FULL_SCAN_S, Inbox, Listing, files_in, incoming, remove_if_unchanged
from worker.ledger import decisions
from worker.monitoring.reconciliation import reconcile
from worker.store.fetch import fetch
from worker.worklist.quarantined_files import quarantine


def test_a_file_is_taken_once_it_has_not_changed_for_the_quiet_time(watched: WatchedInbox) -> None:
    watched.drop("a.dcm", CHEST[:2000])
    assert watched.scan() == {"waiting": 1}
    watched.drop("a.dcm", CHEST[:4000])
    assert watched.scan(9) == {"waiting": 1}
    watched.drop("a.dcm", CHEST)
    assert watched.scan(9) == {"waiting": 1}
    assert watched.scan(9) == {"waiting": 1}
    assert watched.left() == ["a.dcm"]
    assert watched.scan(1) == {"accepted": 1}
    assert watched.left() == []
    assert watched.desk.entry(STUDY_UID).sources == [str(watched.inbox / "a.dcm")]


def test_a_file_that_stays_broken_is_quarantined_in_the_end_and_shows_on_its_study(watched: WatchedInbox) -> None:
    watched.drop("half.dcm", CHEST[:-1000])
    watched.drop("letter.txt", b"Dear colleague")
    watched.drop("empty.dcm", b"")
    watched.scan()
    assert watched.scan(299) == {"waiting": 3}
    assert watched.scan(1) == {"quarantined": 3}
    codes = {Path(f.path).name: (f.code, f.study_uid) for f in quarantine(watched.desk.database)}
    assert codes == {
        "half.dcm": ("truncated", STUDY_UID), "letter.txt": ("not_an_image", None), "empty.dcm": ("truncated", None),
    }  # fmt: skip
    assert watched.left() == [], "their bytes are in the store"


def test_a_broken_file_that_is_completed_in_time_is_taken(watched: WatchedInbox) -> None:
    watched.drop("a.dcm", CHEST[:-1000])
    watched.scan()
    assert watched.scan(200) == {"waiting": 1}
    watched.drop("a.dcm", CHEST)
    assert watched.scan(200) == {"waiting": 1}
    assert watched.scan(10) == {"accepted": 1}


def test_files_that_vanish_are_booked_even_when_the_watcher_was_away(watched: WatchedInbox) -> None:
    first, second = watched.drop("a.dcm"), watched.drop("b.dcm", another(1))
    watched.scan()
    first.unlink()
    assert watched.scan(5) == {"vanished": 1, "waiting": 1}
    second.unlink()
    watched.start()
    assert watched.scan(5) == {"vanished": 2}


def test_a_file_that_vanished_is_taken_when_it_comes_back_as_it_was(watched: WatchedInbox) -> None:
    path, away = watched.drop("a.dcm"), watched.inbox.with_name("away")
    watched.scan()
    steady_s, asked = watched.watcher.steady_s, itertools.count()

    def taken_away_once_it_was_seen() -> float:
        if next(asked) == 1:
            path.rename(away)
        return steady_s()

    watched.watcher.steady_s = taken_away_once_it_was_seen
    assert watched.scan(10) == {"vanished": 1}
    away.rename(path)
    assert watched.scan() == {"vanished": 1, "waiting": 1}
    assert watched.scan(10) == {"vanished": 1, "accepted": 1}
    assert watched.left() == []


def test_unfinished_and_hidden_names_are_passed_over(watched: WatchedInbox) -> None:
    for name in (".hidden.dcm", "a.dcm.partial", "b.PART", "c.tmp", "d.filepart", ".trash/e.dcm"):
        watched.drop(name)
    watched.scan()
    assert watched.scan(60) == {}
    assert len(watched.left()) == 6


def test_one_bad_file_stops_nothing(watched: WatchedInbox) -> None:
    watched.drop("0.dcm", b"no radiograph")
    (watched.inbox / "1.dcm").mkdir()
    watched.drop("1.dcm/inside.dcm", another(1))
    os.mkfifo(watched.inbox / "2.dcm")
    (watched.inbox / "3.dcm").symlink_to(watched.inbox / "nowhere")
    watched.drop(os.fsdecode(b"4\xff.dcm"), another(4))
    watched.drop("9.dcm", another(9))
    watched.scan()
    assert watched.scan(10) == {"accepted": 3, "waiting": 3}
    assert watched.scan(300) == {"accepted": 3, "quarantined": 3}
    assert watched.left() == ["2.dcm", "3.dcm"], "what could not be kept is not removed"
    assert watched.scan(300) == {"accepted": 3, "quarantined": 3}


@pytest.mark.parametrize("mode", [InboxMode.COPY, InboxMode.LEAVE])
def test_files_that_stay_are_taken_once(watched: WatchedInbox, mode: InboxMode) -> None:
    watched.start(inbox_mode=mode)
    path = watched.drop("a.dcm")
    watched.scan()
    assert watched.scan(10) == {"accepted": 1}
    assert watched.scan(10) == {"accepted": 1}
    watched.start()
    watched.scan()
    assert watched.scan(60) == {"accepted": 1}, "a new process knows it"
    assert watched.left() == ["a.dcm"]
    (received,) = watched.desk.claim(STUDY_UID).received
    assert (received.left_at == str(path)) is (mode is InboxMode.LEAVE)
    assert fetch(watched.desk.store, received.digest, received.left_at) == CHEST
    path.with_suffix(".tmp").write_bytes(CHEST)
    path.with_suffix(".tmp").replace(path)
    watched.scan()
    assert watched.scan(10) == {"accepted": 1, "duplicate": 1}, "another file of this name"
    path.touch()
    watched.scan(FULL_SCAN_S)
    assert watched.scan(10) == {"accepted": 1, "duplicate": 2}, "written to where it lies"


def test_left_files_are_safe_when_the_mode_becomes_move(watched: WatchedInbox) -> None:
    watched.start(inbox_mode=InboxMode.LEAVE)
    watched.drop("a.dcm")
    watched.scan()
    watched.scan(10)
    watched.start(inbox_mode=InboxMode.MOVE)
    watched.scan()
    assert watched.scan(10) == {"accepted": 1, "duplicate": 1}
    assert watched.left() == []
    watched.desk.clock.forward(60)
    (received,) = watched.desk.claim(STUDY_UID).received
    assert fetch(watched.desk.store, received.digest, received.left_at) == CHEST


def test_a_file_written_to_while_it_is_booked_is_not_removed(watched: WatchedInbox) -> None:
    path = watched.drop("a.dcm")
    seen = incoming(path)
    assert seen is not None
    path.write_bytes(another(1))
    os.utime(path, ns=(0, seen.mtime_ns + 1))
    assert remove_if_unchanged(seen) is False
    assert watched.left() == ["a.dcm"]


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


def test_the_stat_folder_makes_stat_studies(watched: WatchedInbox) -> None:
    for number, folder in enumerate(("stat", "STAT", "ward/Stat", "status", "stat.old")):
        watched.drop(f"{folder}/a.dcm", another(number))
    watched.scan()
    watched.scan(10)
    found = {e.study_uid: e.priority for e in watched.desk.worklist()}
    assert found == dict.fromkeys(("1.2.3.0", "1.2.3.1", "1.2.3.2"), "stat") | dict.fromkeys(
        ("1.2.3.3", "1.2.3.4"), "routine"
    )


def test_a_study_is_published_when_its_images_have_settled(watched: WatchedInbox) -> None:
    watched.drop("1.dcm")
    watched.scan()
    watched.scan(10)
    assert watched.sweep(30) == []
    watched.drop("2.dcm", dicom_file(picture()[::-1], SOPInstanceUID="1.2.3.4.5.7"))
    watched.scan()
    watched.scan(10)
    assert watched.sweep(59) == []
    assert watched.sweep(1) == [STUDY_UID]
    assert watched.sweep(100) == [STUDY_UID]
    assert len(watched.desk.claim(STUDY_UID).received) == 2


def test_a_broker_outage_loses_nothing(watched: WatchedInbox) -> None:
    for number in range(3):
        watched.drop(f"{number}.dcm", another(number))
    watched.scan()
    watched.scan(10)
    watched.is_broker_away = True
    with pytest.raises(BrokerUnavailable):
        watched.sweep(60)
    assert watched.published == []
    watched.is_broker_away = False
    assert watched.sweep(6) == [f"1.2.3.{n}" for n in range(3)]


def test_an_outage_is_told_when_it_begins_and_when_it_is_over(
    watched: WatchedInbox, caplog: pytest.LogCaptureFixture
) -> None:
    watched.start(scan_interval_s=0.01)
    watched.drop("a.dcm")
    watched.scan()
    watched.scan(10)
    watched.desk.clock.forward(61)
    stop = threading.Event()
    thread = threading.Thread(target=watched.watcher.run, args=[stop])

    def has_been_met(is_away: bool) -> bool:
        watched.desk.clock.forward(0.05)
        return watched.refused >= 10 if is_away else "outage_over" in caplog.messages

    watched.is_broker_away = True
    with caplog.at_level("WARNING"):
        thread.start()
        for is_away in (True, False):
            watched.is_broker_away = is_away
            wait_until(partial(has_been_met, is_away), 60)
    stop.set()
    thread.join()
    assert caplog.messages.count("outage") == 1


def test_low_disk_stops_intake_and_it_resumes(watched: WatchedInbox) -> None:
    watched.drop("a.dcm")
    watched.scan()
    watched.start(min_free_mib=2**40)
    watched.scan()
    watched.desk.clock.forward(10)
    with pytest.raises(StorageUnavailable, match="MiB free"):
        watched.watcher.scan()
    assert watched.left() == ["a.dcm"]
    watched.start(min_free_mib=1)
    watched.scan()
    assert watched.scan(10) == {"accepted": 1}


def test_a_reached_quota_stops_intake_until_a_study_is_read(watched: WatchedInbox) -> None:
    desk = watched.desk
    desk.clock.now = datetime.now(UTC)  # that of the files in the store
    watched.start(store_quota_mib=1)
    watched.drop("large.dcm", dicom_file(picture(rows=1024, columns=600)))
    watched.scan()
    assert watched.scan(10) == {"accepted": 1}
    watched.drop("b.dcm", another(2))
    watched.scan()
    desk.clock.forward(hours=48)
    for work in (lambda: None, lambda: desk.screen(STUDY_UID)):
        work()  # screened or not: what is unread is not let go of
        desk.clock.forward(61)
        watched.watcher.make_room()
        with pytest.raises(StorageUnavailable, match="SCREENING_STORE_QUOTA_MIB is 1: intake stops"):
            watched.watcher.scan()
        assert watched.left() == ["b.dcm"]
    decisions.review(desk.database, STUDY_UID, ReviewOutcome.NO_PNEUMONIA, "Dr A", None, desk.clock())
    watched.start(scan_interval_s=0.05)
    run_for(watched, until=lambda: not watched.left())
    assert reconcile(desk.database, desk.store).files["accepted"] == 2


def test_an_inbox_that_cannot_be_listed_is_an_outage_and_nothing_vanishes(watched: WatchedInbox) -> None:
    watched.drop("a.dcm")
    assert watched.scan() == {"waiting": 1}
    away = watched.inbox.with_name("away")
    watched.inbox.rename(away)
    with pytest.raises(StorageUnavailable, match="inbox"):
        watched.watcher.scan()
    away.rename(watched.inbox)
    assert watched.scan(10) == {"accepted": 1}


class Bound(Inbox):
    """An inbox looked at by somebody whom permissions bind."""

    def scan(self) -> Listing:
        with without_privileges():
            return super().scan()


def test_what_lies_in_a_folder_that_cannot_be_listed_for_once_has_not_vanished(desk: Ledger) -> None:
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    watched = WatchedInbox(desk, folder / "inbox")
    watched.start(inbox_mode=InboxMode.COPY)
    watched.drop("ward/done.dcm")
    watched.scan()
    assert watched.scan(10) == {"accepted": 1}
    ward = watched.drop("ward/new.dcm", another(1)).parent
    watched.scan()
    watched.watcher.inbox = Bound(watched.inbox, watched.watcher.inbox.is_done, steady_s=watched.watcher.steady_s)
    ward.chmod(0)
    assert watched.scan() == {"accepted": 1, "waiting": 1}
    ward.chmod(0o755)
    assert watched.scan(10) == {"accepted": 2}, "and what was done is not taken in again"


def test_an_inbox_that_holds_the_state_folder_is_refused(watched: WatchedInbox) -> None:
    """In mode `move` the watcher would take the database itself."""
    with pytest.raises(BadSetting, match="SCREENING_HOME"):
        watched.start(home=watched.inbox / "state")
    watched.start(home=watched.inbox / ".screening")
    with pytest.raises(BadSetting, match="SCREENING_STORE"):
        watched.start(store=str(watched.inbox / "store"))


def run_for(watched: WatchedInbox, until: Callable[[], object]) -> None:
    """Run the watcher as a thread until `until()`."""
    stop = threading.Event()
    thread = threading.Thread(target=watched.watcher.run, args=[stop])
    thread.start()

    def later() -> bool:
        watched.desk.clock.forward(10)
        return bool(until())

    try:
        wait_until(later, 60)
    finally:
        stop.set()
        (watched.inbox / "wake").touch()
        thread.join()


def test_the_queue_is_served_while_intake_is_stopped(watched: WatchedInbox) -> None:
    """A full disk stops intake, and only intake: what is known goes on to its verdict."""
    watched.drop("a.dcm")
    watched.scan()
    watched.scan(10)
    watched.drop("b.dcm", another(1))
    watched.start(min_free_mib=2**40, scan_interval_s=0.05)
    run_for(watched, until=lambda: watched.published)
    assert STUDY_UID in watched.published


def test_events_wake_the_scan(watched: WatchedInbox) -> None:
    watched.start(scan_interval_s=60.0)
    threading.Timer(0.3, lambda: watched.drop("a.dcm")).start()
    run_for(watched, until=lambda: FileState.WAITING in reconcile(watched.desk.database, watched.desk.store).files)
    with watched.desk.database.reading() as connection:
        paths = connection.execute(text("SELECT path FROM arrival")).scalars().all()
    assert str(watched.inbox / "a.dcm") in paths


def test_files_come_in_order_of_path(watched: WatchedInbox) -> None:
    for name in ("b/2", "a", "b/1", "stat/0"):
        watched.drop(name)
    found = [(Path(f.path).relative_to(watched.inbox).as_posix(), f.priority) for f in files_in(watched.inbox)]
    routine = Priority.ROUTINE
    assert found == [("a", routine), ("b/1", routine), ("b/2", routine), ("stat/0", Priority.STAT)]


def test_a_link_to_itself_is_given_so_that_people_see_it(tmp_path: Path) -> None:
    (tmp_path / "loop.dcm").symlink_to(tmp_path / "loop.dcm")
    assert [Path(file.path).name for file in files_in(tmp_path)] == ["loop.dcm"]


def test_stat_studies_are_taken_in_before_others(watched: WatchedInbox) -> None:
    for name, number in (("a.dcm", 1), ("b.dcm", 2), ("z/stat/c.dcm", 3)):
        watched.drop(name, another(number))
    watched.scan()
    watched.scan(10)
    assert watched.sweep(60) == ["1.2.3.3", "1.2.3.1", "1.2.3.2"]


def test_a_long_backlog_is_taken_in_by_slices_and_swept_meanwhile(watched: WatchedInbox) -> None:
    """Whoever drops ten thousand files must not keep the queue, or a STAT study, waiting until the last is in."""
    for number in range(8):
        watched.drop(f"{number}.dcm", another(number))
    watched.scan()
    watched.desk.clock.forward(60)
    seconds = itertools.count(watched.desk.clock().timestamp(), 2)
    watched.watcher.steady_s = lambda: float(next(seconds))  # two seconds pass between two looks at the clock
    slices = 1
    while not watched.watcher.scan():
        slices += 1
        assert watched.left()
    assert slices > 1
    assert watched.left() == []


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
