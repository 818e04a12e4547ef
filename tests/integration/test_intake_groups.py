"""A backlog of files is booked in groups; each file ends as if alone, and leaves the inbox only when it is booked."""

from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import text

from schema.vocabulary import FileState
from tests.ledger import Ledger, refuse_row
from tests.phantoms import dicom_file, picture
from tests.watched_inbox import WatchedInbox, another
from worker.decoding.decoder import Decoder
from worker.imaging.limits import Limits
from worker.intake.folder_scan import FULL_SCAN_S, files_in
from worker.intake.ingest import Intake
from worker.intake.reader import IntakeRequest
from worker.monitoring.reconciliation import reconcile
from worker.settings import Settings
from worker.store import Store
from worker.store.capacity import Capacity

#: Longer than any file must be unchanged.
QUIET_S = 60.0


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    """Eight studies, one of them twice, one with two images, one image with other pixels, a file that is none."""
    folder = tmp_path / "inbox"
    folder.mkdir()
    for number in range(8):
        (folder / f"{number}.dcm").write_bytes(another(number))
    (folder / "0 again.dcm").write_bytes(another(0))
    uids: dict[str, Any] = {"StudyInstanceUID": "1.2.3.1", "SeriesInstanceUID": "1.2.3.1.1"}
    (folder / "1 lateral.dcm").write_bytes(dicom_file(picture(), SOPInstanceUID="1.2.3.1.1.2", **uids))
    other = dicom_file(np.roll(picture(), 1), SOPInstanceUID="1.2.3.1.1.1", **uids)
    (folder / "1 other pixels.dcm").write_bytes(other)
    (folder / "notes.txt").write_text("no image", encoding="ascii")
    return folder


def refuse(desk: Ledger, size_bytes: int) -> None:
    """Let the database refuse the row of an image of this size."""
    refuse_row(desk.database, "instance", "size_bytes", size_bytes)


def test_a_group_ends_file_by_file_as_alone(desk: Ledger, inbox: Path) -> None:
    intake = Intake(desk.settings, desk.database, desk.store)
    requests = [IntakeRequest(file, inbox, is_final=True, is_settled=True) for file in files_in(inbox)]
    taken = list(intake.take_in_all(requests, desk.clock))
    assert sorted(each.request.file.path for each in taken) == sorted(request.file.path for request in requests)
    states = {Path(each.request.file.path).stem: each.booked.state for each in taken}
    copies = states.pop("0"), states.pop("0 again")
    pixels = states.pop("1"), states.pop("1 other pixels")
    assert sorted(copies) == [FileState.ACCEPTED, FileState.DUPLICATE]
    assert sorted(pixels) == [FileState.ACCEPTED, FileState.CONFLICT]
    assert states.pop("notes") is FileState.QUARANTINED
    assert set(states.values()) == {FileState.ACCEPTED}
    assert reconcile(desk.database, desk.store).holds
    assert (desk.count("study"), desk.count("instance")) == (8, 10)


def test_a_file_that_the_database_refuses_stays_and_the_others_are_taken_in(
    desk: Ledger, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    watched = WatchedInbox(desk, tmp_path / "inbox")
    for number in range(6):
        watched.drop(f"{number}.dcm", another(number))
    refused = watched.drop("refused.dcm", another(6) + b"\0\0" * 8)
    refuse(desk, refused.stat().st_size)
    watched.scan()
    assert watched.scan(QUIET_S) == {"accepted": 6, "waiting": 1}
    assert caplog.messages.count("file_refused") == 1
    watched.scan(QUIET_S)
    assert caplog.messages.count("file_refused") == 1  # it is not tried again at each listing
    assert [path.name for path in watched.inbox.iterdir()] == ["refused.dcm"]
    assert desk.count("study") == 6
    with desk.database.writing() as session:
        is_sqlite = desk.database.engine.dialect.name == "sqlite"
        session.execute(text("DROP TRIGGER refuse" if is_sqlite else "ALTER TABLE instance DROP CONSTRAINT refuse"))
    assert watched.scan(FULL_SCAN_S) == {"accepted": 7}
    assert list(watched.inbox.iterdir()) == []


def test_a_refused_file_of_a_known_image_costs_the_others_of_its_group_nothing(desk: Ledger, tmp_path: Path) -> None:
    watched = WatchedInbox(desk, tmp_path / "inbox")
    for number in range(2):
        watched.drop(f"{number}.dcm", another(number))
    watched.scan()
    watched.scan(QUIET_S)
    for number, name in enumerate(("a refused.dcm", "b.dcm")):
        uid = f"1.2.3.{number}"
        uids: dict[str, Any] = {"StudyInstanceUID": uid, "SeriesInstanceUID": f"{uid}.1"}
        other = dicom_file(np.roll(picture(), 1), SOPInstanceUID=f"{uid}.1.1", **uids)
        watched.drop(name, other + b"\0\0" * 8 if number == 0 else other)
    refuse(desk, (watched.inbox / "a refused.dcm").stat().st_size)
    watched.scan()
    assert watched.scan(QUIET_S) == {"accepted": 2, "conflict": 1, "waiting": 1}
    assert [path.name for path in watched.inbox.iterdir()] == ["a refused.dcm"]


class FailingDecoder(Decoder):
    """It meets a bug when pixels are compared."""

    def stored_digest(self, content: bytes, limits: Limits) -> str:
        """No digest."""
        raise LookupError(f"a bug at {len(content)} bytes, {limits}")


@dataclass
class FailingCapacity(Capacity):
    """It meets a bug when the first file is to be stored."""

    asked: int = 0

    def require(self, settings: Settings, store: Store, now: datetime) -> str:
        """The free space, from the second file on."""
        self.asked += 1
        if self.asked == 1:
            raise LookupError("a bug")
        return super().require(settings, store, now)


@pytest.mark.parametrize("met", ["while it is booked", "while it is read"])
def test_a_bug_with_one_file_costs_the_others_nothing(
    desk: Ledger, tmp_path: Path, caplog: pytest.LogCaptureFixture, met: str
) -> None:
    watched = WatchedInbox(desk, tmp_path / "inbox")
    watched.drop("0.dcm", another(0))
    watched.scan()
    watched.scan(QUIET_S)
    uids: dict[str, Any] = {"StudyInstanceUID": "1.2.3.0", "SeriesInstanceUID": "1.2.3.0.1"}
    watched.drop("a.dcm", dicom_file(np.roll(picture(), 1), SOPInstanceUID="1.2.3.0.1.1", **uids))
    for number in range(1, 4):
        watched.drop(f"{number}.dcm", another(number))
    sound = watched.watcher.intake
    is_booking = met == "while it is booked"
    watched.watcher.intake = replace(
        sound, **({"decoder": FailingDecoder()} if is_booking else {"capacity": FailingCapacity()})
    )
    watched.scan()
    found = watched.scan(QUIET_S)
    assert found["waiting"] == 1
    assert sum(found.values()) == 5
    assert caplog.messages.count("file_refused") == 1
    assert len(list(watched.inbox.iterdir())) == 1, "the file that met the bug stays"
    assert not is_booking or (watched.inbox / "a.dcm").exists()
    watched.watcher.intake = sound
    assert watched.scan(FULL_SCAN_S) == {"accepted": 4, "conflict": 1}
    assert list(watched.inbox.iterdir()) == []
