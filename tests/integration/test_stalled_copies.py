"""A copy that goes on while the watcher looks: nothing is taken too early, nothing that is still written is removed."""

import logging
import mmap
import os
from pathlib import Path
from typing import Any

import pytest

from tests.desk import Desk
from tests.phantoms import JPEG_LS, STUDY_UID, dicom_file, picture
from tests.yard import CHEST, Yard
from worker.intake.folder_scan import incoming, remove_if_unchanged
from worker.intake.ingest import Intake
from worker.intake.watcher import Watcher
from worker.ledger.arrivals import AsRead
from worker.settings import InboxMode
from worker.store import Kept
from worker.store.folder import FolderStore
from worker.worklist.queries import quarantine

WHOLE = dicom_file(picture(bits=12, rows=80), bits=12)
HALF = WHOLE[: len(WHOLE) * 6 // 10] + bytes(len(WHOLE) - len(WHOLE) * 6 // 10)


def test_a_stalled_copy_waits_and_is_taken_with_a_note(yard: Yard) -> None:
    yard.drop("half.dcm", HALF)
    yard.scan()
    assert yard.scan(10) == {"waiting": 1}
    assert yard.scan(289) == {"waiting": 1}
    assert yard.scan(1) == {"accepted": 1}
    assert yard.left() == []
    entry = yard.desk.entry(STUDY_UID)
    assert (entry.state, entry.sources) == ("received", [str(yard.inbox / "half.dcm")])


def test_a_stalled_copy_that_goes_on_is_taken_whole(yard: Yard) -> None:
    yard.drop("a.dcm", HALF)
    yard.scan()
    assert yard.scan(200) == {"waiting": 1}
    yard.drop("a.dcm", WHOLE)
    yard.scan()
    assert yard.scan(10) == {"accepted": 1}
    yard.desk.clock.forward(60)
    (received,) = yard.desk.claim(STUDY_UID).received
    assert yard.desk.store.get("objects", received.digest) == WHOLE


def test_a_stalled_codestream_waits_and_shows_on_its_study(yard: Yard) -> None:
    content = dicom_file(picture(), JPEG_LS, bits=12)
    yard.drop("half.dcm", content[: len(content) * 6 // 10] + bytes(len(content) - len(content) * 6 // 10))
    yard.scan()
    assert yard.scan(299) == {"waiting": 1}
    assert yard.scan(1) == {"quarantined": 1}
    (row,) = quarantine(yard.desk.database)
    assert (row.code, row.study_uid) == ("truncated", STUDY_UID)


def test_the_whole_image_takes_the_place_of_the_half_one(yard: Yard) -> None:
    yard.drop("a.dcm", HALF)
    yard.scan()
    yard.scan(300)
    yard.drop("a.dcm", WHOLE)
    yard.scan()
    assert yard.scan(10) == {"accepted": 2}, "no conflict: the one is the beginning of the other"
    yard.desk.clock.forward(60)
    (received,) = yard.desk.claim(STUDY_UID).received
    assert yard.desk.store.get("objects", received.digest) == WHOLE
    yard.drop("again.dcm", HALF)
    yard.scan()
    assert yard.scan(300) == {"accepted": 2, "quarantined": 1}, "and a half one takes nothing from the whole one"


def test_other_pixels_are_a_conflict_however_they_end(yard: Yard) -> None:
    yard.drop("a.dcm", HALF)
    yard.scan()
    yard.scan(300)
    yard.drop("b.dcm", dicom_file(picture(bits=12, rows=80)[:, ::-1].copy(), bits=12))
    yard.scan()
    assert yard.scan(10) == {"accepted": 1, "conflict": 1}


@pytest.mark.parametrize("how", ["written", "mapped"])
def test_a_file_that_a_process_holds_open_for_writing_is_not_taken(
    yard: Yard, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = yard.drop("a.dcm")
    with path.open("r+b") as writer:
        held = mmap.mmap(writer.fileno(), 0) if how == "mapped" else writer
        if how == "mapped":
            writer.close()
        yard.scan()
        for _ in range(40):
            assert yard.scan(10) == {"waiting": 1}
        held.close()
    assert [r.message for r in caplog.records if r.levelno == logging.WARNING] == ["file_held_open"]
    assert yard.scan(10) == {"accepted": 1}
    assert yard.left() == []


def test_who_only_reads_it_is_no_writer(yard: Yard) -> None:
    with yard.drop("a.dcm").open("rb"):
        yard.scan()
        assert yard.scan(10) == {"accepted": 1}


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


class Meanwhile(FolderStore):
    """A store during whose work a copier goes on, and sets the time back as `cp -p` does."""

    def __init__(self, folder: Path, path: Path) -> None:
        super().__init__(folder)
        self.copied, self.is_done = path, False

    def keep(self, kind: str, content: bytes, digest: str | None = None) -> Kept:
        kept = super().keep(kind, content, digest)
        if not self.is_done:
            self.is_done, before = True, self.copied.stat()
            self.copied.write_bytes(WHOLE)
            os.utime(self.copied, ns=(before.st_atime_ns, before.st_mtime_ns))
        return kept


@pytest.mark.parametrize("mode", [InboxMode.MOVE, InboxMode.COPY])
def test_what_comes_while_a_file_is_booked_is_taken_too(desk: Desk, tmp_path: Path, mode: InboxMode) -> None:
    yard = Yard(desk, tmp_path / "inbox")
    yard.start(inbox_mode=mode)
    path = yard.drop("a.dcm", HALF)
    intake = Intake(desk.settings, desk.database, Meanwhile(desk.store.folder, path))
    yard.watcher = Watcher(intake, yard.inbox, yard.publish, yard.backlog, desk.clock, lambda: desk.clock().timestamp())
    yard.scan()
    yard.scan(300)
    yard.scan()
    yard.scan(10)
    desk.clock.forward(60)
    (received,) = desk.claim(STUDY_UID).received
    assert desk.store.get("objects", received.digest) == WHOLE
    assert (yard.left() == []) is (mode is InboxMode.MOVE)
