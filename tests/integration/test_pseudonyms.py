"""With `identifiers=pseudonyms` no row names a patient, and every look-up by name still works."""

from contextlib import closing
from pathlib import Path
from typing import Any

import attrs
import pytest
from sqlalchemy import inspect, text

from schema.database import Database
from schema.setting_values import InboxMode
from schema.vocabulary import FileState, IdentifierMode, Reason
from tests.brightness_model import write_model
from tests.integration.test_planted_name import Quoting
from tests.ledger import STUDY, Ledger
from tests.phantoms import STUDY_UID, dicom_file, picture
from tests.screen_one_study import screen_study
from worker.decoding.decoder import Decoder
from worker.errors import IdentifiersDiffer, UnknownStudy
from worker.inference.model import open_model
from worker.intake.ingest import Intake
from worker.intake.watcher import Watcher
from worker.ledger.connect import open_database
from worker.ledger.identifiers import IdentifierPolicy
from worker.ledger.lookup import resolve
from worker.ledger.pseudonyms import KEY_FILE
from worker.ledger.screening.outbox import Backlog
from worker.monitoring.health import check_readiness
from worker.screen_study import StudyScreener
from worker.settings import Settings
from worker.store import OBJECTS

NAME = "PLANTEDNAME"
NUMBER = f"{NAME}7"


def planted(number: int = 1, **elements: str) -> bytes:
    named = {
        "PatientName": f"{NAME}^JANE", "PatientID": NAME, "IssuerOfPatientID": f"{NAME} CLINIC",
        "AccessionNumber": NUMBER, "OtherPatientIDs": NAME,
        "ReferringPhysicianName": NAME, "PatientComments": NAME,
    }  # fmt: skip
    identity: dict[str, Any] = named | {"SOPInstanceUID": f"1.2.3.{number}"} | elements
    return dicom_file(picture(bits=8), "1.2.840.10008.1.2.1", **identity)


@pytest.fixture
def hidden(desk: Ledger) -> Ledger:
    """A ledger whose settings ask for pseudonyms."""
    desk.settings = attrs.evolve(desk.settings, identifiers=IdentifierMode.PSEUDONYMS)
    return desk


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    """An inbox below a folder that names a patient."""
    (tmp_path / NAME / "inbox").mkdir(parents=True)
    return tmp_path / NAME / "inbox"


def watcher(desk: Ledger, inbox: Path) -> Watcher:
    intake = Intake(desk.settings, desk.database, desk.store)
    return Watcher(intake, inbox, lambda _: None, Backlog, desk.clock, lambda: desk.clock().timestamp())


def scanned(desk: Ledger, inbox: Path, eyes: Watcher | None = None) -> Watcher:
    """After everything that lies in the inbox has settled and was taken in."""
    eyes = eyes or watcher(desk, inbox)
    eyes.scan()
    desk.clock.forward(seconds=desk.settings.truncated_after_s)
    eyes.scan()
    desk.clock.forward(seconds=desk.settings.study_quiet_s)
    return eyes


def everything(database: Database) -> str:
    """Every row of every table and view."""
    engine = inspect(database.engine)
    with database.reading() as connection:
        names = [*engine.get_table_names(), *engine.get_view_names()]
        return "\n".join(str(row) for name in names for row in connection.execute(text(f"SELECT * FROM {name}")))


def found(desk: Ledger, name: str) -> str:
    with desk.database.reading() as connection:
        return resolve(connection, name, IdentifierPolicy.of(desk.settings))


def test_no_row_holds_a_name_and_a_study_is_found_by_what_stands_on_its_form(hidden: Ledger, inbox: Path) -> None:
    (inbox / NAME).mkdir()
    (inbox / NAME / f"{NAME}_pa.dcm").write_bytes(planted())
    (inbox / f"{NAME}_cut.dcm").write_bytes(planted(2, StudyInstanceUID="1.2.9")[:-200])
    (inbox / f"{NAME}.txt").write_bytes(f"Dear Mrs. {NAME}".encode())
    (inbox / f"{NAME}_link").symlink_to("nowhere")
    scanned(hidden, inbox)
    kept = everything(hidden.database)
    assert "quarantined" in kept
    assert NAME not in kept
    for typed in (f"{NAME}_pa.dcm", str(inbox / NAME / f"{NAME}_pa.dcm"), f"{NAME}/{NAME}_pa.dcm", STUDY_UID[-8:]):
        assert found(hidden, typed) == STUDY_UID
    row = hidden.study(STUDY_UID)
    with pytest.raises(UnknownStudy, match="several"):
        found(hidden, NUMBER)
    with pytest.raises(UnknownStudy, match="several"):
        found(hidden, row.accession_number)
    assert len({row.patient_id, row.issuer_of_patient_id, row.accession_number}) == 3
    stored = [Path(file.place).read_bytes() for file in hidden.store.files(OBJECTS)]
    assert planted() in stored, "objects stay as they were received"


def test_an_accession_number_that_a_person_types_finds_its_study(hidden: Ledger, inbox: Path) -> None:
    (inbox / "a.dcm").write_bytes(planted())
    scanned(hidden, inbox)
    assert found(hidden, NUMBER) == STUDY_UID
    assert found(hidden, hidden.study(STUDY_UID).accession_number) == STUDY_UID, "what the worklist prints"


def test_duplicates_and_two_patients_are_still_told(hidden: Ledger, inbox: Path) -> None:
    (inbox / "a.dcm").write_bytes(planted())
    eyes = scanned(hidden, inbox)
    (inbox / "b.dcm").write_bytes(planted())
    scanned(hidden, inbox, eyes)
    (inbox / "c.dcm").write_bytes(planted(2))
    scanned(hidden, inbox, eyes)
    assert hidden.study(STUDY_UID).conflict is None, "the same patient has the same pseudonym"
    (inbox / "d.dcm").write_bytes(planted(3, PatientID=f"{NAME}2"))
    scanned(hidden, inbox, eyes)
    assert hidden.study(STUDY_UID).conflict == Reason.TWO_PATIENTS
    with hidden.database.reading() as connection:
        states = connection.execute(text("SELECT state FROM arrival ORDER BY id")).scalars().all()
    assert states == [FileState.ACCEPTED, FileState.DUPLICATE, FileState.ACCEPTED, FileState.CONFLICT]


@pytest.mark.parametrize("kind", ["sqlite"])
def test_a_restarted_watcher_knows_what_lies_in_its_inbox(hidden: Ledger, inbox: Path) -> None:
    hidden.settings = attrs.evolve(hidden.settings, inbox_mode=InboxMode.COPY)
    (inbox / f"{NAME}.dcm").write_bytes(planted())
    scanned(hidden, inbox)
    scanned(hidden, inbox)
    assert hidden.count("arrival") == 1
    (inbox / f"{NAME}_late.dcm").write_bytes(b"")
    watcher(hidden, inbox).scan()
    (inbox / f"{NAME}_late.dcm").unlink()
    scanned(hidden, inbox)
    with hidden.database.reading() as connection:
        states = connection.execute(text("SELECT state FROM arrival ORDER BY id")).scalars().all()
    assert states == [FileState.ACCEPTED, FileState.VANISHED]


@pytest.mark.parametrize("kind", ["sqlite"])
def test_a_bugs_own_words_are_not_kept(hidden: Ledger, inbox: Path, tmp_path: Path) -> None:
    (inbox / "a.dcm").write_bytes(planted())
    scanned(hidden, inbox)
    hidden.offer()
    card = open_model(write_model(tmp_path / "even.onnx"), provider="cpu").card
    with closing(Decoder()) as decoder:
        screener = StudyScreener(
            hidden.settings, hidden.database, hidden.store, Quoting(card), hidden.clock, decoder=decoder
        )
        assert screen_study(screener, STUDY_UID, screener.clock()) is not None
    assert hidden.study(STUDY_UID).failure_detail.startswith("LookupError at ")


def settings_of(desk: Ledger, identifiers: IdentifierMode) -> Settings:
    return attrs.evolve(desk.settings, database=desk.database.url, identifiers=identifiers)


def opened(settings: Settings) -> None:
    open_database(settings).close()


def test_a_filled_database_keeps_its_way_and_its_key(desk: Ledger) -> None:
    plain, hidden = settings_of(desk, IdentifierMode.PLAIN), settings_of(desk, IdentifierMode.PSEUDONYMS)
    for settings in (plain, hidden, plain, hidden):
        opened(settings)  # it is empty: the setting may still change
    desk.receive(STUDY)
    opened(hidden)
    with pytest.raises(IdentifiersDiffer, match="as pseudonyms, SCREENING_IDENTIFIERS says plain"):
        opened(plain)
    key = desk.store.folder / KEY_FILE
    kept = key.read_bytes()
    key.unlink()
    with pytest.raises(IdentifiersDiffer, match="is not the key"):
        opened(hidden)
    key.write_bytes(kept)
    opened(hidden)


def test_a_filled_database_of_before_is_plain(desk: Ledger) -> None:
    desk.receive(STUDY)
    opened(settings_of(desk, IdentifierMode.PLAIN))
    hidden = settings_of(desk, IdentifierMode.PSEUDONYMS)
    with pytest.raises(IdentifiersDiffer, match="as they came, SCREENING_IDENTIFIERS says pseudonyms"):
        opened(hidden)
    found = next(finding for finding in check_readiness(hidden) if finding.what == "database")
    assert not found.is_well
    assert "Set it back" in found.message
    assert not (desk.store.folder / KEY_FILE).exists()
