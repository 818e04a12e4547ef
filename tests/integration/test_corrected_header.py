"""An image that comes again under its UID with a corrected header: what is corrected counts, and it is said."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from schema.vocabulary import Band, FileState, ReviewOutcome
from tests.ledger import Ledger
from tests.phantoms import EXPLICIT_LITTLE, JPEG_LS, STUDY_UID, dicom_file, picture
from worker.imaging.image_file import read_instance
from worker.intake.folder_scan import incoming
from worker.intake.ingest import Intake
from worker.ledger import decisions
from worker.ledger.intake.arrivals import Registration
from worker.monitoring.reconciliation import reconcile
from worker.store import OBJECTS
from worker.worklist.study_view import study_view

NAME = "DOE^PLANTED"


class Sender:
    """Sends one image again and again, with other headers."""

    def __init__(self, desk: Ledger, folder: Path) -> None:
        self.desk, self.folder, self.number = desk, folder, 0

    def send(self, syntax: str = EXPLICIT_LITTLE, **elements: Any) -> Registration:
        self.number += 1
        path = self.folder / f"{self.number}.dcm"
        said = {"PatientID": "P-1", "AccessionNumber": "A-1", "PatientName": NAME, "PatientAge": "004Y", **elements}
        path.write_bytes(dicom_file(picture(), syntax, bits=12, **said))
        file = incoming(path)
        assert file is not None
        intake = Intake(self.desk.settings, self.desk.database, self.desk.store)
        booked = intake.take_in(file, self.desk.clock(), is_final=True, is_settled=True, inbox=self.folder)
        assert reconcile(self.desk.database, self.desk.store).holds
        return booked

    @property
    def images(self) -> list[tuple[str | None, bool]]:
        """Body part of each image, and whether it counts no longer."""
        with self.desk.database.reading() as connection:
            rows = connection.execute(text("SELECT body_part, superseded FROM instance ORDER BY id")).all()
        return [(row.body_part, bool(row.superseded)) for row in rows]


@pytest.fixture
def sender(desk: Ledger, tmp_path: Path) -> Sender:
    return Sender(desk, tmp_path)


def screen(desk: Ledger, probability: float) -> None:
    held = desk.claim(STUDY_UID)
    assert desk.record(held, probability, headers=[each_header(desk, each.digest) for each in held.received])


def each_header(desk: Ledger, digest: str) -> Any:
    return read_instance(desk.store.get(OBJECTS, digest))


def test_a_hand_that_is_corrected_to_a_chest_is_screened(desk: Ledger, sender: Sender) -> None:
    sender.send(BodyPartExamined="HAND")
    screen(desk, 0.9)
    assert desk.entry(STUDY_UID).band == Band.INELIGIBLE
    booked = sender.send(BodyPartExamined="CHEST")
    assert (booked.state, "says otherwise: body_part" in booked.message) == (FileState.ACCEPTED, True)
    assert sender.images == [("HAND", True), ("CHEST", False)]
    screen(desk, 0.9)
    assert desk.entry(STUDY_UID).band == Band.FLAGGED
    said = [arrival["message"] for arrival in study_view(desk.database, STUDY_UID, desk.clock()).arrivals]
    assert "says otherwise: body_part" in said[-1], "the study's page shows it"
    assert sender.send(BodyPartExamined="HAND").state is FileState.DUPLICATE, "the old file changes nothing"
    assert sender.images == [("HAND", True), ("CHEST", False)]


def test_a_chest_that_becomes_a_hand_stays_screened(desk: Ledger, sender: Sender) -> None:
    sender.send(BodyPartExamined="CHEST")
    screen(desk, 0.9)
    booked = sender.send(BodyPartExamined="HAND")
    assert "screened by both" in booked.message
    screen(desk, 0.9)
    assert desk.entry(STUDY_UID).band == Band.FLAGGED


def test_a_corrected_age_counts(desk: Ledger, sender: Sender) -> None:
    sender.send(PatientAge="044Y")
    screen(desk, 0.1)
    sender.send(PatientAge="004Y")
    (received,) = desk.claim(STUDY_UID).received
    assert each_header(desk, received.digest).age_years == 4


def test_another_window_is_screened_as_it_is_shown_now(desk: Ledger, sender: Sender) -> None:
    sender.send(WindowCenter=2048, WindowWidth=4096)
    screen(desk, 0.1)
    booked = sender.send(WindowCenter=1024, WindowWidth=1024)
    assert (booked.state, "display_values" in booked.message) == (FileState.ACCEPTED, True)
    assert len(desk.claim(STUDY_UID).received) == 1


def test_a_corrected_accession_number_is_the_one_of_the_list(desk: Ledger, sender: Sender) -> None:
    sender.send()
    screen(desk, 0.9)
    before = desk.study(STUDY_UID)
    booked = sender.send(AccessionNumber="A-2")
    assert (booked.state, booked.message) == (
        FileState.DUPLICATE,
        "the same pixels, in other bytes, were accepted before; its header says otherwise: accession_number",
    )
    after = desk.study(STUDY_UID)
    assert (after.accession_number, after.revision, after.state) == ("A-2", before.revision, "screened")
    assert sender.send(AccessionNumber="").message == "the same pixels, in other bytes, were accepted before"
    assert desk.study(STUDY_UID).accession_number == "A-2"


def test_an_image_without_patient_gets_the_one_that_comes_later(desk: Ledger, sender: Sender) -> None:
    sender.send(PatientID="", AccessionNumber="")
    assert sender.send().state is FileState.DUPLICATE
    study = desk.study(STUDY_UID)
    assert (study.patient_id, study.accession_number) == ("P-1", "A-1")
    assert sender.send(PatientID="P-2").state is FileState.CONFLICT, "another patient is not a correction"


def test_another_wrapping_of_the_same_image_is_a_plain_duplicate(sender: Sender) -> None:
    sender.send()
    booked = sender.send(JPEG_LS)
    assert (booked.state, booked.message) == (
        FileState.DUPLICATE,
        "the same pixels, in other bytes, were accepted before",
    )


def test_three_headers_are_no_conflict_and_the_last_counts(desk: Ledger, sender: Sender) -> None:
    for part in ("HAND", "FOOT", "CHEST"):
        sender.send(BodyPartExamined=part)
    assert desk.study(STUDY_UID).conflict is None
    assert sender.images == [("HAND", True), ("FOOT", True), ("CHEST", False)]


def test_a_study_that_was_read_stays_read(desk: Ledger, sender: Sender) -> None:
    sender.send(PatientAge="044Y")
    screen(desk, 0.1)
    decisions.review(desk.database, STUDY_UID, ReviewOutcome.NO_PNEUMONIA, "Dr A", None, desk.clock())
    sender.send(PatientAge="004Y")
    assert desk.worklist() == []
    screen(desk, 0.1)
    assert desk.worklist() == []


def test_no_value_of_a_header_is_told(sender: Sender, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(0)
    sender.send(PatientAge="044Y", AccessionNumber="PLANTED-1")
    booked = sender.send(PatientAge="004Y", AccessionNumber="PLANTED-2")
    assert "accession_number" in booked.message
    assert "PLANTED" not in booked.message + caplog.text
