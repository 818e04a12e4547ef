"""Hostile files at intake: each ends in one state, the sums are right, and the next file is taken in as usual."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import event

from schema.vocabulary import FileState
from tests.ledger import Ledger
from tests.phantoms import STUDY_UID, dicom_file, picture
from worker.intake.folder_scan import files_in
from worker.intake.ingest import Intake
from worker.ledger.intake.arrivals import Registration
from worker.monitoring.reconciliation import reconcile
from worker.worklist.quarantined_files import quarantine

pytestmark = pytest.mark.parametrize("kind", ["sqlite"])  # what differs here lies before the database


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


def take_in_all(desk: Ledger, inbox: Path) -> dict[str, Registration]:
    """What became of every file of the inbox, by its name; the sums hold afterwards."""
    intake = Intake(desk.settings, desk.database, desk.store)
    booked = {
        Path(file.path).name: intake.take_in(file, desk.clock(), is_final=True, is_settled=True, inbox=inbox)
        for file in files_in(inbox)
    }
    assert reconcile(desk.database, desk.store).holds
    return booked


@pytest.mark.parametrize("year", [1901, 2400])
def test_a_file_from_another_century_is_taken_in(desk: Ledger, inbox: Path, year: int) -> None:
    path = inbox / "a.dcm"
    path.write_bytes(dicom_file(picture()))
    moment = (year - 1970) * 365.2425 * 86400
    os.utime(path, (moment, moment))
    assert take_in_all(desk, inbox)["a.dcm"].state is FileState.ACCEPTED


def test_a_station_that_gives_every_image_one_uid_does_not_slow_intake_down(desk: Ledger, inbox: Path) -> None:
    """Every further image is a conflict; each is decoded once, and asks the database as little as the first ones."""
    pixels = picture()
    for number in range(40):
        uid = f"1.2.3.{number}"
        content = dicom_file(np.roll(pixels, number), StudyInstanceUID=uid, SeriesInstanceUID=f"{uid}.1")
        (inbox / f"{number:02}.dcm").write_bytes(content)
    intake = Intake(desk.settings, desk.database, desk.store)
    asked: list[int] = []
    event.listen(desk.database.engine, "before_cursor_execute", lambda *_: asked.append(1))
    counts = []
    for file in files_in(inbox):
        asked.clear()
        intake.take_in(file, desk.clock(), is_final=True, is_settled=True, inbox=inbox)
        counts.append(len(asked))
    assert reconcile(desk.database, desk.store).files == {"accepted": 1, "conflict": 39}
    assert max(counts[20:]) <= max(counts[:5])
    assert len(intake.known_pixels) == 40


def test_a_link_to_a_folder_is_told_and_not_followed(desk: Ledger, inbox: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "a.dcm").write_bytes(dicom_file(picture()))
    (inbox / "link").symlink_to(outside)
    (inbox / "up").symlink_to("..")
    for _ in range(2):
        booked = take_in_all(desk, inbox)
        assert {name: b.state for name, b in booked.items()} == dict.fromkeys(("link", "up"), FileState.QUARANTINED)
        (outside / "b.dcm").write_bytes(b"more")  # what happens behind the link is no news of the link
    assert [(Path(f.path).name, f.code) for f in quarantine(desk.database)] == [
        ("up", "not_a_regular_file"),
        ("link", "not_a_regular_file"),
    ]


def test_a_path_longer_than_an_index_takes_is_booked(desk: Ledger, inbox: Path) -> None:
    folder = inbox
    for level in range(14):
        folder = (
            folder / hashlib.sha512(str(level).encode()).hexdigest() / hashlib.sha512(folder.name.encode()).hexdigest()
        )
    folder.mkdir(parents=True)
    (folder / "a.dcm").write_bytes(dicom_file(picture()))
    assert take_in_all(desk, inbox)["a.dcm"].state is FileState.ACCEPTED
    (source,) = desk.entry(STUDY_UID).sources
    assert source.startswith(str(inbox))
    assert source.endswith("a.dcm")
