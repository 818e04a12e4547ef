"""A claimed study is screened by the shipped model, whatever has happened to its files."""

from pathlib import Path

import attrs
import cv2
import pytest
from sqlalchemy import text

from schema.setting_values import InboxMode
from tests.ledger import Ledger
from tests.phantoms import STUDY_UID, dicom_file, picture
from tests.screen_one_study import screen
from worker.errors import StorageUnavailable
from worker.imaging.image_file import read_display
from worker.imaging.preprocess import apply
from worker.imaging.statistics import describe
from worker.inference.model import OnnxModel, open_model
from worker.intake.folder_scan import incoming
from worker.intake.ingest import Intake
from worker.screen_study import StudyScreener
from worker.settings import DEFAULT_MODEL
from worker.store import OBJECTS

pytestmark = pytest.mark.parametrize("kind", ["sqlite"])  # what differs here lies before the database

INBOX = Path(__file__).parents[1] / "data" / "inbox"


@pytest.fixture(scope="module")
def model() -> OnnxModel:
    return open_model(DEFAULT_MODEL, provider="cpu")


@pytest.fixture
def screener(desk: Ledger, model: OnnxModel) -> StudyScreener:
    return StudyScreener(desk.settings, desk.database, desk.store, model, desk.clock)


def take_in(desk: Ledger, path: Path) -> str:
    file = incoming(path)
    assert file is not None
    intake = Intake(desk.settings, desk.database, desk.store)
    booked = intake.take_in(file, desk.clock(), is_final=True, is_settled=True, inbox=path.parent)
    assert booked.study_uid is not None
    return booked.study_uid


@pytest.mark.parametrize("name", ["anna_explicit.dcm", "ida_8_bit.png", "leo_native.jpeg"])
def test_a_sample_gets_a_probability_and_a_heat_map(desk: Ledger, screener: StudyScreener, name: str) -> None:
    study_uid = take_in(desk, INBOX / name)
    assert screen(screener, desk.claim(study_uid))
    entry = desk.entry(study_uid)
    assert entry.probability is not None
    assert (entry.verdict == "flagged") is (entry.probability >= screener.model.card.operating_point.threshold)
    assert entry.heatmap is not None
    assert cv2.imread(entry.heatmap) is not None
    assert entry.model_digest == screener.model.digest
    grid, _ = apply(read_display((INBOX / name).read_bytes()).pixels, screener.model.card.preprocessing)
    with desk.database.reading() as connection:
        kept = connection.execute(text("SELECT display_mean, display_deviation, dark_border FROM finding")).one()
    assert tuple(kept) == tuple(vars(describe(grid)).values()), "the lab describes an image otherwise"


STAGES = text("SELECT read_s, decode_s, predict_s, draw_s, batch_size, worked_s FROM screening")


def test_a_result_keeps_the_times_of_its_stages_and_its_batch(desk: Ledger, screener: StudyScreener) -> None:
    study_uid = take_in(desk, INBOX / "hugo_pa.dcm")
    take_in(desk, INBOX / "hugo_ap.dcm")
    assert screen(screener, desk.claim(study_uid))
    with desk.database.reading() as connection:
        *stages, batch_size, _ = connection.execute(STAGES).one()
    assert all(0 < taken < 600 for taken in stages)
    assert batch_size == 2


def test_a_stage_that_was_not_entered_has_no_time(desk: Ledger, screener: StudyScreener) -> None:
    study_uid = take_in(desk, INBOX / "paul_lateral.dcm")
    assert screen(screener, desk.claim(study_uid))
    with desk.database.reading() as connection:
        row = connection.execute(STAGES).one()
    assert row.read_s > 0
    assert (row.decode_s, row.predict_s, row.draw_s, row.batch_size) == (None, None, None, None)


def test_a_file_lost_from_the_store_is_shown_and_not_waited_for(
    desk: Ledger, screener: StudyScreener, tmp_path: Path
) -> None:
    path = tmp_path / "a.dcm"
    path.write_bytes(dicom_file(picture()))
    take_in(desk, path)
    (received,) = (held := desk.claim(STUDY_UID)).received
    desk.store.path(OBJECTS, received.digest).unlink()
    assert screen(screener, held)
    entry = desk.entry(STUDY_UID)
    assert (entry.verdict, entry.verdict_detail) == ("unscreenable", "stored_file_lost")


def test_a_store_that_is_away_is_an_outage(desk: Ledger, screener: StudyScreener, tmp_path: Path) -> None:
    path = tmp_path / "a.dcm"
    path.write_bytes(dicom_file(picture()))
    take_in(desk, path)
    held = desk.claim(STUDY_UID)
    desk.store.folder.rename(tmp_path / "unmounted")
    with pytest.raises(StorageUnavailable):
        screen(screener, held)
    (tmp_path / "unmounted").rename(desk.store.folder)
    assert screen(screener, held), "the claim still holds"


def test_a_left_file_that_changed_is_shown_and_not_tried_for_ever(
    desk: Ledger, screener: StudyScreener, tmp_path: Path
) -> None:
    desk.settings = attrs.evolve(desk.settings, inbox_mode=InboxMode.LEAVE)
    path = tmp_path / "a.dcm"
    path.write_bytes(dicom_file(picture()))
    take_in(desk, path)
    path.write_bytes(b"something else")
    assert screen(screener, desk.claim(STUDY_UID))
    entry = desk.entry(STUDY_UID)
    assert (entry.verdict, entry.verdict_detail) == ("unscreenable", "source_changed")


def test_a_blank_image_is_no_negative(desk: Ledger, screener: StudyScreener, tmp_path: Path) -> None:
    path = tmp_path / "blank.png"
    path.write_bytes(cv2.imencode(".png", picture(bits=8) * 0 + 90)[1].tobytes())
    study_uid = take_in(desk, path)
    assert screen(screener, desk.claim(study_uid))
    assert (desk.entry(study_uid).verdict, desk.entry(study_uid).reason) == ("unscreenable", "blank_image")
