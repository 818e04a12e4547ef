"""A name planted wherever a file can hold one, on every path that refuses it: no log, message or output repeats it."""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import attrs
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from sqlalchemy import text

from schema.setting_values import InboxMode
from tests import crashing_decoder
from tests.brightness_model import write_model
from tests.ledger import Ledger
from tests.phantoms import JPEG_LS, SOP_INSTANCE_UID, STUDY_UID, declare_syntax, dicom_file, picture
from tests.screen_one_study import screen, screen_study
from worker.decoding.decoder import Decoder
from worker.errors import StorageUnavailable
from worker.inference.card import ModelCard
from worker.inference.model import Model, open_model
from worker.inference.prediction import Prediction
from worker.intake.ingest import Intake
from worker.intake.watcher import Watcher
from worker.ledger.screening.outbox import Backlog
from worker.runtime.error_place import place_of
from worker.screen_study import StudyScreener
from worker.store import OBJECTS

NAME = "PLANTEDNAME"

#: Columns that hold what a person or a sender wrote; people see them, logs do not.
IDENTITY = {"path", "left_at", "patient_id", "issuer_of_patient_id", "accession_number", "station_name", "manufacturer"}


def planted(**elements: Any) -> bytes:
    named = {
        "PatientName": f"{NAME}^JANE", "PatientID": NAME, "IssuerOfPatientID": NAME, "AccessionNumber": NAME,
        "OtherPatientIDs": NAME, "InstitutionName": NAME, "StationName": NAME, "Manufacturer": NAME,
        "ReferringPhysicianName": NAME, "StudyDescription": NAME, "PatientComments": NAME,
    }  # fmt: skip
    syntax = elements.pop("syntax", JPEG_LS)
    return dicom_file(picture(bits=8), syntax, **named | elements)


def png() -> bytes:
    comment = NAME.encode()
    data = cv2.imencode(".png", picture(bits=8))[1].tobytes()
    return data[:33] + len(comment).to_bytes(4, "big") + b"tEXt" + comment + bytes(4) + data[33:]


#: What a file holds -> the code it ends with: every Rejected of the tree but those that need a deed (below).
REFUSED: dict[str, tuple[bytes, str]] = {
    "text": (b"Dear Mrs. " + NAME.encode(), "not_an_image"),
    "cut": (planted()[:-200], "truncated"),
    "no_study": (planted(StudyInstanceUID=""), "missing_element"),
    "uid_is_a_name": (planted(SeriesInstanceUID=f"{NAME}\x1b"), "missing_element"),
    "syntax": (declare_syntax(planted(syntax="1.2.840.10008.1.2.1"), "1.2.3.4"), "unsupported_transfer_syntax"),
    "frames": (planted(NumberOfFrames=3), "unsupported_pixels"),
    "large": (planted(Rows=65535, Columns=65535), "too_large"),
    "damaged": (planted(pixel_data=b"\xfe\xff\x00\xe0\0\0\0\0"), "undecodable"),
    "png": (png()[:-30] + NAME.encode(), "truncated"),
    "crash": (planted(ImageComments=f"CODEC-CRASH {NAME}"), "decoder_crashed"),
    "stumble": (planted(ImageComments=f"CODEC-STUMBLE {NAME}"), "decoder_crashed"),
    "grow": (planted(ImageComments=f"CODEC-GROW {NAME}"), "decoder_out_of_memory"),
    "hang": (planted(ImageComments=f"CODEC-HANG {NAME}"), "decoder_timed_out"),
}
pytestmark = pytest.mark.parametrize("kind", ["sqlite"])


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    with closing(Decoder(deadline_s=60.0, memory_mib=2048, program=crashing_decoder.PROGRAM)) as decoder:
        yield decoder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return open_model(write_model(tmp_path_factory.mktemp("model") / "brightness.onnx"), provider="cpu")


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox" / NAME
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def unsaid(
    desk: Ledger, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> Iterator[Callable[[], None]]:
    """Fails when the name was said in a log, on an output, or in a message of the ledger."""
    caplog.set_level(logging.DEBUG)

    def check() -> None:
        said = "\n".join(str(vars(record)) + record.getMessage() for record in caplog.records)
        printed = capfd.readouterr()
        assert NAME not in said + printed.out + printed.err
        with desk.database.reading() as connection:
            for table in ("arrival", "study", "series", "instance", "screening", "finding"):
                for row in connection.execute(text(f"SELECT * FROM {table}")).mappings():
                    kept = {name: value for name, value in row.items() if name not in IDENTITY}
                    assert NAME not in str(kept), table

    yield check
    check()


def watched(desk: Ledger, decoder: Decoder, inbox: Path) -> Watcher:
    """A watcher that has looked at the inbox until nothing there could be waited for any longer."""
    intake = Intake(desk.settings, desk.database, desk.store, decoder)
    watcher = Watcher(intake, inbox.parent, lambda _: None, Backlog, desk.clock, lambda: desk.clock().timestamp())
    for _ in range(2):
        watcher.scan()
        desk.clock.forward(seconds=desk.settings.truncated_after_s + 1)
    return watcher


def codes(desk: Ledger) -> set[str]:
    """Every code that a file or an image bears."""
    with desk.database.reading() as connection:
        found = set(connection.execute(text("SELECT code FROM arrival")).scalars())
        return found | set(connection.execute(text("SELECT unreadable FROM finding")).scalars())


def test_files_of_every_refusal(
    desk: Ledger, decoder: Decoder, model: Model, inbox: Path, unsaid: Callable[[], None]
) -> None:
    for number, (name, (content, _)) in enumerate(REFUSED.items()):
        own = f"{STUDY_UID[:-4]}.{100 + number}".encode()
        alone = content.replace(STUDY_UID.encode(), own).replace(SOP_INSTANCE_UID.encode(), own[-11:])
        (inbox / f"{NAME}_{name}.dcm").write_bytes(alone)
    os.mkfifo(inbox / f"{NAME}_fifo")
    (inbox / f"{NAME}_link").symlink_to("nowhere")
    watched(desk, decoder, inbox)
    screener = StudyScreener(desk.settings, desk.database, desk.store, model, desk.clock, decoder=decoder)
    hanging = f"{STUDY_UID[:-4]}.{100 + list(REFUSED).index('hang')}"
    for study_uid in desk.offer():
        decoder.deadline_s = 1.0 if study_uid == hanging else 60.0
        assert screen_study(screener, study_uid, screener.clock()) is None
    assert codes(desk) >= {code for _, code in REFUSED.values()} | {"not_a_regular_file", "unreadable_file"}
    unsaid()


@pytest.mark.parametrize("deed", ["lost", "changed"])
def test_files_that_are_gone_when_they_are_screened(
    desk: Ledger, decoder: Decoder, model: Model, inbox: Path, unsaid: Callable[[], None], deed: str
) -> None:
    mode = InboxMode.COPY if deed == "lost" else InboxMode.LEAVE
    desk.settings = attrs.evolve(desk.settings, inbox_mode=mode)
    (inbox / f"{NAME}.dcm").write_bytes(planted())
    watched(desk, decoder, inbox)
    desk.clock.forward(seconds=desk.settings.study_quiet_s)
    held = desk.claim(STUDY_UID)
    if deed == "lost":
        desk.store.path(OBJECTS, held.received[0].digest).unlink()
    else:
        (inbox / f"{NAME}.dcm").unlink()
    screener = StudyScreener(desk.settings, desk.database, desk.store, model, desk.clock, decoder=decoder)
    assert screen(screener, held)
    assert codes(desk) == {None, "stored_file_lost" if deed == "lost" else "source_changed"}
    unsaid()


def test_a_store_that_is_away(desk: Ledger, decoder: Decoder, inbox: Path, unsaid: Callable[[], None]) -> None:
    (inbox / f"{NAME}.dcm").write_bytes(planted())
    desk.store.folder.parent.mkdir(parents=True)
    desk.store.folder.write_text("no folder")
    watcher = Watcher(
        Intake(desk.settings, desk.database, desk.store, decoder),
        inbox,
        lambda _: None,
        Backlog,
        desk.clock,
        lambda: desk.clock().timestamp(),
    )
    watcher.scan()
    desk.clock.forward(seconds=desk.settings.file_quiet_s)
    with pytest.raises(StorageUnavailable) as error:
        watcher.scan()
    assert NAME not in str(error.value)
    unsaid()


@dataclass(frozen=True)
class Quoting:
    """A model with a bug that quotes what it should not."""

    card: ModelCard
    digest: str = "0" * 64
    provider: str = "CPUExecutionProvider"

    def predict(self, batch: NDArray[np.uint8]) -> list[Prediction]:
        """Fail."""
        raise LookupError(f"{NAME} in {batch.shape}")


def test_a_bug_that_quotes_it_is_kept_with_its_study_and_goes_no_further(
    desk: Ledger, decoder: Decoder, model: Model, inbox: Path, unsaid: Callable[[], None]
) -> None:
    (inbox / f"{NAME}.dcm").write_bytes(planted())
    watched(desk, decoder, inbox)
    desk.clock.forward(seconds=desk.settings.study_quiet_s)
    desk.offer()
    screener = StudyScreener(desk.settings, desk.database, desk.store, Quoting(model.card), desk.clock, decoder=decoder)
    bug = screen_study(screener, STUDY_UID, screener.clock())
    assert bug is not None
    assert place_of(bug).startswith("LookupError at test_planted_name.py:"), "what the task raises, and Celery logs"
    study = desk.study(STUDY_UID)
    assert (study.state, study.failure_code, NAME in study.failure_detail) == ("failed", "unexpected_error", True)
    with desk.database.writing() as session:
        session.execute(text("UPDATE study SET failure_detail = ''"))
    unsaid()
