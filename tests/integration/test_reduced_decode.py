"""A study is read at a lower resolution only where its verdict cannot depend on it, and its row says so."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import attrs
import cv2
import numpy as np
import pytest
from sqlalchemy import text

from schema.setting_values import ReducedDecode as Setting
from tests.brightness_model import write_model
from tests.ledger import Ledger
from tests.phantoms import JPEG_2000_LOSSLESS, STUDY_UID, dicom_file
from tests.screen_one_study import screen
from worker.decoding.decoder import Decoder
from worker.imaging.codec.resolution import Reduction
from worker.imaging.display.pipeline import Display
from worker.imaging.image_file import OpenImage, read_grid
from worker.imaging.preprocess import Resize
from worker.inference.card import ReducedDecode
from worker.inference.model import OnnxModel, open_model
from worker.intake.folder_scan import incoming
from worker.intake.ingest import Intake
from worker.screen_study import StudyScreener

pytestmark = pytest.mark.parametrize("kind", ["sqlite"])  # what differs here lies before the database

ROWS, COLUMNS = 1500, 60
MEASURED = ReducedDecode(("jpeg_2000",), 0.3, 0.7, 0.05, 200, "2" * 64)


class Recording(Decoder):
    """A decoder that remembers the size of each picture it gave."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[int] = []

    def read_display(self, image: OpenImage, reduction: Reduction | None = None) -> Display:
        """The real display, remembered."""
        shown = super().read_display(image, reduction)
        self.rows.append(shown.pixels.shape[0])
        return shown


@pytest.fixture(scope="module")
def one_child() -> Iterator[Recording]:
    with closing(Recording()) as decoder:
        yield decoder


@pytest.fixture
def decoder(one_child: Recording) -> Recording:
    one_child.rows.clear()
    return one_child


def with_pyramid(folder: Path, gain: float = 1.0) -> OnnxModel:
    path = write_model(folder / f"{gain}-pyramid.onnx", gain, familiarity_limit=1.9, resize=Resize.PYRAMID53)
    return open_model(path, "cpu")


def opened(folder: Path, measured: ReducedDecode | None = MEASURED, gain: float = 1.0) -> OnnxModel:
    path = folder / f"{gain}-{measured is None}.onnx"
    return open_model(write_model(path, gain, familiarity_limit=1.9, reduced_decode=measured), "cpu")


def radiograph(grey: int, dot: int | None = None) -> bytes:
    """Of one brightness, with a darker band or only one pixel to show that it is not blank.

    Beside the band it has a bright marker, as films do: a window that shows only a few dark greys would not be used.
    """
    pixels = np.full((ROWS, COLUMNS), grey, np.uint8)
    if dot is None:
        pixels[:40] = grey // 2
        pixels[:8, :64] = 255
    else:
        pixels[701, 31] = dot
    return dicom_file(pixels, JPEG_2000_LOSSLESS, bits=8, WindowCenter=128, WindowWidth=256)


def screened(desk: Ledger, screener: StudyScreener, data: bytes, folder: Path) -> str:
    """Screen this file; returns the notes of its first row."""
    path = folder / "a.dcm"
    path.write_bytes(data)
    file = incoming(path)
    assert file is not None
    intake = Intake(desk.settings, desk.database, desk.store)
    intake.take_in(file, desk.clock(), is_final=True, is_settled=True, inbox=folder)
    assert screen(screener, desk.claim(STUDY_UID))
    with desk.database.reading() as session:
        return str(session.execute(text("SELECT notes FROM finding ORDER BY id")).scalars().first())


@pytest.mark.parametrize(
    ("grey", "rows", "why"),
    [
        (200, [750], "flagged, and far from the threshold"),
        (20, [750], "not flagged, and as far"),
        (100, [750, ROWS], "between the bounds"),
        (240, [750, ROWS], "about as bright as is familiar"),
    ],
)
def test_only_an_answer_without_doubt_is_taken_from_a_lower_resolution(
    desk: Ledger, decoder: Recording, tmp_path: Path, grey: int, rows: list[int], why: str
) -> None:
    model = opened(tmp_path)
    screener = StudyScreener(desk.settings, desk.database, desk.store, model, desk.clock, decoder=decoder)
    notes = screened(desk, screener, radiograph(grey), tmp_path)
    assert decoder.rows == rows, why
    assert ("reduced=1" in notes) is (rows == [750])
    entry = desk.entry(STUDY_UID)
    assert entry.heatmap is not None
    drawn = cv2.imread(entry.heatmap)
    assert drawn is not None
    assert drawn.shape[0] == 768
    assert entry.probability == pytest.approx(grey / 255, abs=0.02)


@pytest.mark.parametrize("shadow_measured", [None, MEASURED])
def test_a_shadow_has_its_own_say(
    desk: Ledger, decoder: Recording, tmp_path: Path, shadow_measured: ReducedDecode | None
) -> None:
    model, shadow = opened(tmp_path), opened(tmp_path, shadow_measured, gain=0.6)
    screener = StudyScreener(desk.settings, desk.database, desk.store, model, desk.clock, shadow, decoder)
    screened(desk, screener, radiograph(200), tmp_path)
    # not measured: nothing is reduced; measured: its answer lies between the bounds
    assert decoder.rows == ([ROWS] if shadow_measured is None else [750, ROWS])


def test_a_setting_turns_it_off(desk: Ledger, decoder: Recording, tmp_path: Path) -> None:
    settings = attrs.evolve(desk.settings, reduced_decode=Setting.OFF)
    screener = StudyScreener(settings, desk.database, desk.store, opened(tmp_path), desk.clock, decoder=decoder)
    assert "reduced" not in screened(desk, screener, radiograph(200), tmp_path)
    assert decoder.rows == [ROWS]


def test_a_picture_that_looks_blank_is_looked_at_in_full(desk: Ledger, decoder: Recording, tmp_path: Path) -> None:
    screener = StudyScreener(desk.settings, desk.database, desk.store, opened(tmp_path), desk.clock, decoder=decoder)
    screened(desk, screener, radiograph(200, dot=201), tmp_path)
    assert decoder.rows == [750, ROWS]
    assert desk.entry(STUDY_UID).verdict == "flagged"


@pytest.mark.parametrize("grey", [20, 100, 200, 240])
def test_a_pyramid_leaves_no_doubt(desk: Ledger, decoder: Recording, tmp_path: Path, grey: int) -> None:
    """Near the threshold, and near the limit of familiarity, the halved picture is the one that counts."""
    screener = StudyScreener(
        desk.settings, desk.database, desk.store, with_pyramid(tmp_path), desk.clock, None, decoder
    )
    assert "reduced=1" in screened(desk, screener, radiograph(grey), tmp_path)
    assert decoder.rows == [750]
    entry = desk.entry(STUDY_UID)
    assert entry.probability == pytest.approx(grey / 255, abs=0.02)
    assert entry.heatmap is not None
    drawn = cv2.imread(entry.heatmap)
    assert drawn is not None
    assert drawn.shape[0] == 768


def test_a_pyramid_decoded_in_full_says_the_same(desk: Ledger, decoder: Recording, tmp_path: Path) -> None:
    settings, model = attrs.evolve(desk.settings, reduced_decode=Setting.OFF), with_pyramid(tmp_path)
    screener = StudyScreener(settings, desk.database, desk.store, model, desk.clock, None, decoder)
    data = radiograph(200)
    assert "reduced" not in screened(desk, screener, data, tmp_path)
    pixels = read_grid(data, model.card.preprocessing)
    assert desk.entry(STUDY_UID).probability == model.predict(pixels[None])[0].probability


def test_a_picture_is_blank_when_its_halved_one_is(desk: Ledger, decoder: Recording, tmp_path: Path) -> None:
    screener = StudyScreener(
        desk.settings, desk.database, desk.store, with_pyramid(tmp_path), desk.clock, None, decoder
    )
    screened(desk, screener, radiograph(200, dot=201), tmp_path)
    assert decoder.rows == [750]
    assert desk.entry(STUDY_UID).reason == "blank_image"


@pytest.mark.parametrize("is_active", [True, False])
def test_a_pyramid_and_a_model_without_one_see_their_own_pictures(
    desk: Ledger, decoder: Recording, tmp_path: Path, is_active: bool
) -> None:
    pair = with_pyramid(tmp_path), opened(tmp_path, None)
    model, shadow = pair if is_active else pair[::-1]
    screener = StudyScreener(desk.settings, desk.database, desk.store, model, desk.clock, shadow, decoder)
    screened(desk, screener, radiograph(200), tmp_path)
    assert decoder.rows == ([750, ROWS] if is_active else [ROWS, 750])
    with desk.database.reading() as session:
        scores = session.execute(text("SELECT probability FROM screening ORDER BY id")).scalars().all()
    assert len(scores) == 2
    assert scores == pytest.approx([200 / 255] * 2, abs=0.02)
