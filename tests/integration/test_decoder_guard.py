"""Files that crash, hang or exhaust their decoder affect only their own study."""

import weakref
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import text

from schema.vocabulary import FileState
from tests import crashing_decoder
from tests.brightness_model import write_model
from tests.ledger import Ledger
from tests.phantoms import JPEG_LS, STUDY_UID, dicom_file, picture
from tests.screen_one_study import screen, screen_study
from worker.decoding.decoder import Decoder
from worker.imaging.codec.resolution import Reduction
from worker.imaging.display.pipeline import Display
from worker.imaging.image_file import OpenImage
from worker.inference.model import OnnxModel, open_model
from worker.intake.folder_scan import files_in
from worker.intake.ingest import Intake
from worker.ledger.intake.arrivals import Registration
from worker.monitoring.reconciliation import reconcile
from worker.screen_study import IMAGES_AT_ONCE, StudyScreener

pytestmark = pytest.mark.parametrize("kind", ["sqlite"])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> OnnxModel:
    return open_model(write_model(tmp_path_factory.mktemp("model") / "brightness.onnx"), provider="cpu")


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    with closing(Decoder(memory_mib=2048, program=crashing_decoder.PROGRAM)) as decoder:
        yield decoder


def study(name: str, failure: str = "", image: int = 1, syntax: str = JPEG_LS, **elements: Any) -> bytes:
    uid = f"1.2.3.{name}"
    return dicom_file(
        picture(bits=8), syntax, StudyInstanceUID=uid, SeriesInstanceUID=f"{uid}.1",
        SOPInstanceUID=f"{uid}.1.{image}", ImageComments=failure, **elements,
    )  # fmt: skip


def take_in(desk: Ledger, inbox: Path, decoder: Decoder) -> list[Registration]:
    intake = Intake(desk.settings, desk.database, desk.store, decoder)
    return [intake.take_in(f, desk.clock(), is_final=True, is_settled=True, inbox=inbox) for f in files_in(inbox)]


def test_one_message_of_good_and_bad_studies(desk: Ledger, model: OnnxModel, decoder: Decoder, tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    failures = {"1": "", "2": "CODEC-CRASH ", "3": "", "4": "CODEC-GROW ", "5": "CODEC-STUMBLE ", "6": "CODEC-HANG "}
    for name, failure in failures.items():
        (inbox / f"{name}.dcm").write_bytes(study(name, failure))
    (inbox / "2b.dcm").write_bytes(study("2", image=2))
    take_in(desk, inbox, decoder)
    screener = StudyScreener(desk.settings, desk.database, desk.store, model, desk.clock, decoder=decoder)
    desk.offer()
    for name in failures:
        decoder.deadline_s = 1.0 if failures[name] == "CODEC-HANG " else 60.0
        assert screen_study(screener, f"1.2.3.{name}", screener.clock()) is None
    entries = {e.study_uid[-1]: e for e in desk.worklist()}
    assert {name: e.state for name, e in entries.items()} == dict.fromkeys(failures, "screened")
    assert [(name, e.verdict_detail) for name, e in sorted(entries.items()) if e.verdict == "unscreenable"] == [
        ("2", "decoder_crashed"),
        ("4", "decoder_out_of_memory"),
        ("5", "decoder_crashed"),
        ("6", "decoder_timed_out"),
    ]
    assert entries["2"].probability == entries["1"].probability, "its other image was read"
    assert reconcile(desk.database, desk.store).holds


def test_a_study_of_hanging_images_ends_before_its_message_is_killed(
    desk: Ledger, model: OnnxModel, decoder: Decoder, tmp_path: Path
) -> None:
    inbox, images = tmp_path / "inbox", 6
    inbox.mkdir()
    for image in range(1, images + 1):
        (inbox / f"{image}.dcm").write_bytes(study("7", "CODEC-HANG ", image=image))
    take_in(desk, inbox, decoder)
    screener = StudyScreener(
        desk.settings, desk.database, desk.store, model, desk.clock, decoder=decoder, decode_budget_s=1.5
    )
    desk.offer()
    decoder.deadline_s = 1.0
    assert screen_study(screener, "1.2.3.7", screener.clock()) is None
    (entry,) = desk.worklist()
    assert (entry.state, entry.verdict, entry.verdict_detail) == ("screened", "unscreenable", "decoder_timed_out")
    with desk.database.reading() as connection:
        notes = connection.execute(text("SELECT notes FROM finding WHERE unreadable IS NOT NULL")).scalars().all()
    untried = sum("it was not tried" in str(note) for note in notes)
    assert (len(notes), untried) in {(images, images - 2), (images, images - 1)}, "the first, and a second in time"


def test_intake_lives_through_pixels_that_kill_while_it_compares_them(
    desk: Ledger, decoder: Decoder, tmp_path: Path
) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    for name, failure in (("a", ""), ("b", "CODEC-CRASH "), ("c", "")):
        (inbox / f"{name}.dcm").write_bytes(study("1", failure, StationName=name))
    states = [booked.state for booked in take_in(desk, inbox, decoder)]
    assert states == [FileState.ACCEPTED, FileState.CONFLICT, FileState.DUPLICATE]
    assert reconcile(desk.database, desk.store).holds


class Counting(Decoder):
    """A decoder that tells how many of the pictures it gave are still held by somebody."""

    def __init__(self) -> None:
        super().__init__()
        self.held: list[Any] = []
        self.most = 0

    def read_display(self, image: OpenImage, reduction: Reduction | None = None) -> Display:
        """The real display, counted."""
        shown = super().read_display(image, reduction)
        self.held = [*(ref for ref in self.held if ref() is not None), weakref.ref(shown.pixels)]
        self.most = max(self.most, len(self.held))
        return shown


def test_a_study_of_many_images_is_never_held_whole(desk: Ledger, model: OnnxModel, tmp_path: Path) -> None:
    inbox, many = tmp_path / "inbox", 5 * IMAGES_AT_ONCE + 3
    inbox.mkdir()
    bright = many - 2
    for number in range(many):
        pixels = np.full((40, 40), 250 if number == bright else 20, np.uint8)
        pixels[0, :8] = [number >> bit & 1 for bit in range(8)]
        image = dicom_file(pixels, SOPInstanceUID=f"1.2.3.{number}", WindowCenter=128, WindowWidth=256)
        (inbox / f"{number:03}.dcm").write_bytes(image)
    decoder = Counting()
    take_in(desk, inbox, decoder)
    screener = StudyScreener(desk.settings, desk.database, desk.store, model, desk.clock, model, decoder)
    assert screen(screener, desk.claim(STUDY_UID))
    assert 1 <= decoder.most <= 2 * IMAGES_AT_ONCE
    entry = desk.entry(STUDY_UID)
    assert (entry.verdict, desk.count("finding")) == ("flagged", many)
    assert entry.probability == pytest.approx(250 / 255, abs=0.03)
    assert entry.heatmap is not None
