"""One file at intake: it ends in one state, its bytes are safe, and other files are not affected."""

import hashlib
import os
import socket
import tempfile
from pathlib import Path

import attrs
import cv2
import numpy as np
import pytest
from sqlalchemy import text

from schema.setting_values import InboxMode, RasterStudy
from schema.vocabulary import FileState
from tests.ledger import Ledger, without_privileges
from tests.phantoms import (
    EXPLICIT_LITTLE,
    JPEG_LS,
    STUDY_UID,
    dicom_file,
    picture,
)
from worker.errors import SourceChanged, StorageUnavailable, Unreadable
from worker.intake.folder_scan import incoming
from worker.intake.ingest import Intake
from worker.intake.reader import IntakeRequest
from worker.ledger.intake.arrivals import Registration
from worker.monitoring.reconciliation import reconcile
from worker.store import OBJECTS
from worker.store.fetch import fetch
from worker.worklist.quarantined_files import quarantine

PNG = cv2.imencode(".png", picture(bits=8))[1].tobytes()


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


class Counter:
    """The intake of an installation, which takes in one file after another."""

    def __init__(self, desk: Ledger, inbox: Path) -> None:
        self.desk, self.inbox, self.settings = desk, inbox, desk.settings

    def bring(self, name: str, content: bytes | None = None, *, is_final: bool = True) -> Registration:
        path = self.inbox / name
        if content is not None:
            path.parent.mkdir(exist_ok=True, parents=True)
            path.write_bytes(content)
        file = incoming(path)
        assert file is not None
        intake = Intake(self.settings, self.desk.database, self.desk.store)
        booked = intake.take_in(file, self.desk.clock(), is_final=is_final, is_settled=True, inbox=self.inbox)
        assert reconcile(self.desk.database, self.desk.store).holds
        return booked

    def keep(self, content: bytes) -> bool:
        return self.desk.store.has(OBJECTS, hashlib.sha256(content).hexdigest())


@pytest.fixture
def counter(desk: Ledger, inbox: Path) -> Counter:
    return Counter(desk, inbox)


def test_a_radiograph_is_booked_and_its_bytes_are_in_the_store(counter: Counter) -> None:
    content = dicom_file(picture())
    booked = counter.bring("a.dcm", content)
    assert (booked.state, booked.study_uid, booked.is_in_store) == (FileState.ACCEPTED, STUDY_UID, True)
    assert counter.keep(content)
    assert (counter.inbox / "a.dcm").exists(), "the counter itself removes nothing"


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "truncated"),
        (b"Dear colleague, ...", "not_an_image"),
        (b"PK\x03\x04 and so on", "not_an_image"),
        (b"<!DOCTYPE html><html></html>", "not_an_image"),
        (b"\0" * 5000, "truncated"),
        (PNG[: len(PNG) // 2], "truncated"),
        (dicom_file(picture(), without=("StudyInstanceUID",)), "missing_element"),
        (dicom_file(picture())[:140], "truncated"),
    ],
)
def test_what_cannot_be_read_is_quarantined_with_its_bytes(counter: Counter, content: bytes, code: str) -> None:
    assert counter.bring("x", content, is_final=False).state is FileState.WAITING
    assert quarantine(counter.desk.database) == []
    assert counter.bring("x").state is FileState.QUARANTINED
    (row,) = quarantine(counter.desk.database)
    assert (row.path, row.code) == (str(counter.inbox / "x"), code)
    assert row.message
    assert counter.keep(content)
    assert counter.desk.count("study") == 0


def test_a_truncated_radiograph_shows_on_its_study_until_it_comes_whole(counter: Counter) -> None:
    whole = dicom_file(picture())
    booked = counter.bring("half.dcm", whole[:-1000])
    assert (booked.state, booked.study_uid) == (FileState.QUARANTINED, STUDY_UID)
    assert counter.bring("half again.dcm", whole[:-1000]).state is FileState.QUARANTINED
    assert counter.desk.count("instance") == 1
    assert counter.bring("whole.dcm", whole).state is FileState.ACCEPTED
    assert [r.unreadable for r in counter.desk.claim(STUDY_UID).received] == [None]


@pytest.mark.parametrize("case", ["same bytes", "other transfer syntax", "other pixels", "undecodable"])
def test_one_uid_twice(counter: Counter, case: str) -> None:
    pixels = picture()
    counter.bring("first.dcm", dicom_file(pixels, EXPLICIT_LITTLE, bits=12))
    negative = np.ascontiguousarray(pixels.max() - pixels)
    second, expected = {
        "same bytes": (dicom_file(pixels, EXPLICIT_LITTLE, bits=12), FileState.DUPLICATE),
        "other transfer syntax": (dicom_file(pixels, JPEG_LS, bits=12), FileState.DUPLICATE),
        "other pixels": (dicom_file(negative, JPEG_LS, bits=12), FileState.CONFLICT),
        "undecodable": (
            dicom_file(pixels, JPEG_LS, bits=12, frame=b"\xff\xd8 no JPEG-LS \xff\xd9"),
            FileState.CONFLICT,
        ),
    }[case]
    assert counter.bring("second.dcm", second).state is expected
    assert counter.keep(second)


def test_a_twin_whose_bytes_are_lost_does_not_stop_intake(counter: Counter) -> None:
    first = dicom_file(picture(), bits=12)
    counter.bring("first.dcm", first)
    lost = counter.desk.store.path(OBJECTS, hashlib.sha256(first).hexdigest())
    lost.write_bytes(b"damaged")
    assert counter.bring("second.dcm", dicom_file(picture(), JPEG_LS, bits=12)).state is FileState.CONFLICT


def test_special_files_are_quarantined_unread(counter: Counter) -> None:
    os.mkfifo(counter.inbox / "pipe.dcm")
    with socket.socket(socket.AF_UNIX) as server:
        short = tempfile.mkdtemp()
        server.bind(f"{short}/s")
        (counter.inbox / "socket.dcm").symlink_to(f"{short}/s")
        (counter.inbox / "null.dcm").symlink_to("/dev/null")
        (counter.inbox / "nowhere.dcm").symlink_to("/nowhere/at/all")
        for name in ("pipe.dcm", "socket.dcm", "null.dcm", "nowhere.dcm"):
            assert counter.bring(name).state is FileState.QUARANTINED, name
    codes = {Path(f.path).stem: f.code for f in quarantine(counter.desk.database)}
    special = "not_a_regular_file"
    assert codes == {"pipe": special, "socket": special, "null": special, "nowhere": "unreadable_file"}


def test_a_file_without_permission_is_told_from_a_broken_one(counter: Counter) -> None:
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    path = folder / "closed.dcm"
    path.write_bytes(dicom_file(picture()))
    path.chmod(0)
    file = incoming(path)
    assert file is not None
    intake = Intake(counter.settings, counter.desk.database, counter.desk.store)
    request = IntakeRequest(file, folder, is_final=True, is_settled=True)
    with without_privileges():  # the whole counter cannot work so: the database files are root's
        refusal = intake.reader.read(request, counter.desk.clock()).refusal
    assert isinstance(refusal, Unreadable)
    assert "check its permissions" in refusal.message
    path.chmod(0o600)
    assert intake.reader.read(request, counter.desk.clock()).refusal is None


def test_a_file_too_large_is_refused_unread_and_taken_once_the_setting_allows_it(counter: Counter) -> None:
    path = counter.inbox / "large.dcm"
    with path.open("wb") as file:
        file.truncate(66 * 2**20)
    counter.settings = attrs.evolve(counter.settings, max_pixel_mib=1)
    assert counter.bring("large.dcm").state is FileState.QUARANTINED
    (row,) = quarantine(counter.desk.database)
    assert (row.code, "SCREENING_MAX_PIXEL_MIB" in row.message) == ("too_large", True)
    assert counter.bring("large.dcm").state is FileState.QUARANTINED
    assert len(quarantine(counter.desk.database)) == 1, "it is the same file still"
    counter.settings = attrs.evolve(counter.settings, max_pixel_mib=512)
    counter.bring("large.dcm")
    assert quarantine(counter.desk.database)[0].code == "truncated", "read at last: nothing but zeros"


def test_a_file_that_vanishes_or_grows_at_the_last_moment(counter: Counter) -> None:
    path = counter.inbox / "a.dcm"
    path.write_bytes(dicom_file(picture()))
    file = incoming(path)
    assert file is not None
    intake = Intake(counter.settings, counter.desk.database, counter.desk.store)
    with path.open("ab") as more:
        more.write(b"more")
    booked = intake.take_in(file, counter.desk.clock(), is_final=False, is_settled=True, inbox=counter.inbox)
    assert (booked.state, "still being written" in booked.message) == (FileState.WAITING, True)
    path.unlink()
    booked = intake.take_in(file, counter.desk.clock(), is_final=False, is_settled=True, inbox=counter.inbox)
    assert booked.state is FileState.VANISHED
    assert counter.desk.count("arrival") == 1


def test_a_name_that_is_no_utf8_is_booked_and_shown(counter: Counter) -> None:
    name = os.fsdecode(b"M\xfcller.dcm")  # Latin-1, as old archives write it
    assert counter.bring(name, dicom_file(picture())).state is FileState.ACCEPTED
    (source,) = counter.desk.entry(STUDY_UID).sources
    assert source.endswith("M\\xfcller.dcm")
    for mode, sop in ((InboxMode.LEAVE, "1.2.3.9"), (InboxMode.COPY, "1.2.3.8")):
        counter.settings = attrs.evolve(counter.settings, inbox_mode=mode)
        booked = counter.bring(f"{mode}{name}", dicom_file(picture(), SOPInstanceUID=sop))
        assert booked.state is FileState.ACCEPTED
    for received in counter.desk.claim(STUDY_UID).received:
        assert fetch(counter.desk.store, received.digest, received.left_at)


def test_rasters_are_studies_by_file_or_by_folder(counter: Counter) -> None:
    other = cv2.imencode(".png", picture(bits=8)[::-1])[1].tobytes()
    assert counter.bring("p/1.png", PNG).study_uid != counter.bring("p/2.png", other).study_uid
    counter.settings = attrs.evolve(counter.settings, raster_study=RasterStudy.FOLDER)
    third, fourth = (cv2.imencode(".png", np.roll(picture(bits=8), n))[1].tobytes() for n in (5, 9))
    assert counter.bring("q/1.png", third).study_uid == counter.bring("q/2.png", fourth).study_uid
    assert counter.bring("r/1.png", third).state is FileState.ACCEPTED, "in another folder, another study"
    assert counter.bring("3.png", third).study_uid != counter.bring("4.png", fourth).study_uid
    for folder in ("stat", "STAT", "Stat"):
        assert counter.bring(f"{folder}/3.png", third).study_uid != counter.bring(f"{folder}/4.png", fourth).study_uid


def test_left_files_are_read_in_place_until_they_change(counter: Counter) -> None:
    counter.settings = attrs.evolve(counter.settings, inbox_mode=InboxMode.LEAVE)
    content = dicom_file(picture())
    counter.bring("a.dcm", content)
    assert not counter.keep(content)
    (received,) = counter.desk.claim(STUDY_UID).received
    assert fetch(counter.desk.store, received.digest, received.left_at) == content
    path = counter.inbox / "a.dcm"
    path.write_bytes(content + b"\0\0")
    with pytest.raises(SourceChanged, match="has changed"):
        fetch(counter.desk.store, received.digest, received.left_at)
    path.unlink()
    with pytest.raises(SourceChanged, match="cannot be read"):
        fetch(counter.desk.store, received.digest, received.left_at)


def test_left_files_that_come_again_are_found_where_they_are_now(counter: Counter) -> None:
    content = dicom_file(picture())
    counter.settings = attrs.evolve(counter.settings, inbox_mode=InboxMode.LEAVE)
    counter.bring("a.dcm", content)
    (counter.inbox / "a.dcm").unlink()
    counter.settings = attrs.evolve(counter.settings, inbox_mode=InboxMode.MOVE)
    assert counter.bring("b.dcm", content).state is FileState.DUPLICATE
    (counter.inbox / "b.dcm").unlink()
    (received,) = counter.desk.claim(STUDY_UID).received
    assert fetch(counter.desk.store, received.digest, received.left_at) == content


def test_intake_stops_while_the_disk_is_nearly_full_and_nothing_is_lost(counter: Counter) -> None:
    plenty = counter.settings
    counter.settings = attrs.evolve(plenty, min_free_mib=2**40)
    with pytest.raises(StorageUnavailable, match="SCREENING_MIN_FREE_MIB"):
        counter.bring("a.dcm", dicom_file(picture()))
    assert counter.desk.count("instance") == 0
    counter.settings = plenty
    assert counter.bring("a.dcm").state is FileState.ACCEPTED


def test_the_bytes_are_safe_before_the_row_is_written(counter: Counter) -> None:
    """A store that cannot be written leaves no row behind that promises bytes."""
    (counter.settings.home).mkdir(parents=True)
    (counter.settings.home / "store").mkdir()
    (counter.settings.home / "store" / OBJECTS).write_text("a file where a folder should be")
    with pytest.raises(StorageUnavailable, match="cannot write to the store"):
        counter.bring("a.dcm", dicom_file(picture()))
    with counter.desk.database.reading() as connection:
        assert connection.execute(text("SELECT COUNT(*) FROM arrival WHERE state = 'accepted'")).scalar_one() == 0


def test_patients_of_one_study_must_agree_whatever_the_pixels(counter: Counter) -> None:
    counter.bring("a.dcm", dicom_file(picture(), PatientID="P-1"))
    booked = counter.bring("b.dcm", dicom_file(picture(), PatientID="P-2"))
    assert (booked.state, counter.desk.entry(STUDY_UID).conflict) == (FileState.CONFLICT, "two_patients")
