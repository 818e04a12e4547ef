"""A copy that goes on while the watcher looks: nothing is taken too early, nothing that is still written is removed."""

import logging
import mmap
import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from schema.setting_values import InboxMode, StoreLink
from tests.ledger import Ledger
from tests.phantoms import JPEG_LS, STUDY_UID, dicom_file, picture
from tests.watched_inbox import CHEST, WatchedInbox
from worker.intake.folder_scan import incoming, remove_if_unchanged
from worker.intake.held_file import Step
from worker.intake.source_file import open_at_once
from worker.ledger.intake.arrivals import AsRead
from worker.worklist.quarantined_files import quarantine

WHOLE = dicom_file(picture(bits=12, rows=80), bits=12)
HALF = WHOLE[: len(WHOLE) * 6 // 10] + bytes(len(WHOLE) - len(WHOLE) * 6 // 10)


def test_a_stalled_copy_waits_and_is_taken_with_a_note(watched: WatchedInbox) -> None:
    watched.drop("half.dcm", HALF)
    watched.scan()
    assert watched.scan(10) == {"waiting": 1}
    assert watched.scan(289) == {"waiting": 1}
    assert watched.scan(1) == {"accepted": 1}
    assert watched.left() == []
    entry = watched.desk.entry(STUDY_UID)
    assert (entry.state, entry.sources) == ("received", [str(watched.inbox / "half.dcm")])


def test_a_stalled_copy_that_goes_on_is_taken_whole(watched: WatchedInbox) -> None:
    watched.drop("a.dcm", HALF)
    watched.scan()
    assert watched.scan(200) == {"waiting": 1}
    watched.drop("a.dcm", WHOLE)
    watched.scan()
    assert watched.scan(10) == {"accepted": 1}
    watched.desk.clock.forward(60)
    (received,) = watched.desk.claim(STUDY_UID).received
    assert watched.desk.store.get("objects", received.digest) == WHOLE


def test_a_stalled_codestream_waits_and_shows_on_its_study(watched: WatchedInbox) -> None:
    content = dicom_file(picture(), JPEG_LS, bits=12)
    watched.drop("half.dcm", content[: len(content) * 6 // 10] + bytes(len(content) - len(content) * 6 // 10))
    watched.scan()
    assert watched.scan(299) == {"waiting": 1}
    assert watched.scan(1) == {"quarantined": 1}
    (row,) = quarantine(watched.desk.database)
    assert (row.code, row.study_uid) == ("truncated", STUDY_UID)


def test_the_whole_image_takes_the_place_of_the_half_one(watched: WatchedInbox) -> None:
    watched.drop("a.dcm", HALF)
    watched.scan()
    watched.scan(300)
    watched.drop("a.dcm", WHOLE)
    watched.scan()
    assert watched.scan(10) == {"accepted": 2}, "no conflict: the one is the beginning of the other"
    watched.desk.clock.forward(60)
    (received,) = watched.desk.claim(STUDY_UID).received
    assert watched.desk.store.get("objects", received.digest) == WHOLE
    watched.drop("again.dcm", HALF)
    watched.scan()
    assert watched.scan(300) == {"accepted": 2, "quarantined": 1}, "and a half one takes nothing from the whole one"


def test_other_pixels_are_a_conflict_however_they_end(watched: WatchedInbox) -> None:
    watched.drop("a.dcm", HALF)
    watched.scan()
    watched.scan(300)
    watched.drop("b.dcm", dicom_file(picture(bits=12, rows=80)[:, ::-1].copy(), bits=12))
    watched.scan()
    assert watched.scan(10) == {"accepted": 1, "conflict": 1}


@pytest.mark.parametrize("how", ["written", "mapped"])
def test_a_file_that_a_process_holds_open_for_writing_is_not_taken(
    watched: WatchedInbox, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = watched.drop("a.dcm")
    with path.open("r+b") as writer:
        held = mmap.mmap(writer.fileno(), 0) if how == "mapped" else writer
        if how == "mapped":
            writer.close()
        watched.scan()
        for _ in range(40):
            assert watched.scan(10) == {"waiting": 1}
        held.close()
    assert [r.message for r in caplog.records if r.levelno == logging.WARNING] == ["file_held_open"]
    assert watched.scan(10) == {"accepted": 1}
    assert watched.left() == []


def test_who_only_reads_it_is_no_writer(watched: WatchedInbox) -> None:
    with watched.drop("a.dcm").open("rb"):
        watched.scan()
        assert watched.scan(10) == {"accepted": 1}


@pytest.fixture
def read(tmp_path: Path) -> tuple[Path, Any, AsRead]:
    """A file, as seen, and as read."""
    path = tmp_path / "a.dcm"
    path.write_bytes(CHEST)
    seen = incoming(path)
    from worker.store import sums_of

    return path, seen, AsRead(sums_of(CHEST)[0], path.stat().st_ctime_ns)


def test_a_file_whose_bytes_changed_is_not_removed_though_its_times_were_set_back(read: Any) -> None:
    path, seen, as_read = read
    with path.open("r+b") as writer:
        writer.seek(-1, os.SEEK_END)
        writer.write(b"\x07")
    os.utime(path, ns=(seen.mtime_ns, seen.mtime_ns))
    assert remove_if_unchanged(seen, as_read) is False
    assert path.exists()


def test_a_file_whose_mode_alone_changed_is_removed(read: Any) -> None:
    path, seen, as_read = read
    path.chmod(0o640)
    assert remove_if_unchanged(seen, as_read) is True
    assert not path.exists()


def test_a_file_that_is_opened_for_writing_meanwhile_is_not_removed(read: Any) -> None:
    path, seen, as_read = read
    with path.open("ab"):
        assert remove_if_unchanged(seen, as_read) is False
    assert remove_if_unchanged(seen, as_read) is True


class Copier:
    """A copier that goes on once the file is in the store, and sets the time back as `cp -p` does."""

    def __init__(self, path: Path) -> None:
        self.path, self.is_due, self.is_done = path, False, False

    def at_step(self, step: Step) -> None:
        self.is_due = self.is_due or step is Step.STORED
        self.go_on()

    def go_on(self) -> None:
        """Write the rest; whoever is held off by a lease tries again later."""
        if not self.is_due or self.is_done:
            return
        before = self.path.stat()
        with suppress(BlockingIOError), open(self.path, "r+b", opener=open_at_once) as writer:
            writer.write(WHOLE)
            self.is_done = True
        if self.is_done:
            os.utime(self.path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("mode", [InboxMode.MOVE, InboxMode.COPY])
@pytest.mark.parametrize("link", StoreLink)
def test_what_comes_while_a_file_is_booked_is_taken_too(
    desk: Ledger, tmp_path: Path, mode: InboxMode, link: StoreLink
) -> None:
    watched = WatchedInbox(desk, tmp_path / "inbox")
    watched.start(inbox_mode=mode, store_link=link)
    copier = Copier(watched.drop("a.dcm", HALF))
    watched.watcher.intake = replace(watched.watcher.intake, at_step=copier.at_step)
    for after_s in (0, 300, 0, 10, 10):
        watched.scan(after_s)
        copier.go_on()
    assert copier.is_done
    desk.clock.forward(60)
    (received,) = desk.claim(STUDY_UID).received
    assert desk.store.get("objects", received.digest) == WHOLE
    assert (watched.left() == []) is (mode is InboxMode.MOVE)
