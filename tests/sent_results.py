"""Screened studies whose objects lie in the store, and an archive that takes their results."""

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import attrs
import cv2
import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from sqlalchemy import text

import tests.receiver  # noqa: F401 closes the sockets of pynetdicom's client
from schema.vocabulary import Priority
from tests.ledger import Ledger
from tests.phantoms import dicom_file, picture
from worker.dicom.library_log import quiet_library
from worker.dicom.send.composer import Composer
from worker.dicom.send.destination import destination_of
from worker.dicom.send.sender import Sender
from worker.intake.ingest import Intake
from worker.intake.received_object import ReceivedObject, read_header, take_in
from worker.store import sums_of

STUDY = "1.2.826.0.1.3680043.10.9.7"


#: SOP Class, modality and elements of a source.
SOURCES: dict[str, dict[str, Any]] = {
    "CR": {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.1", "Modality": "CR", "PatientName": "Doe^Jane"},
    "DX": {"PatientName": "Yamada^Tarou=山田^太郎=やまだ^たろう", "SpecificCharacterSet": ["", "ISO 2022 IR 87"]},
    "SC": {
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.7", "Modality": "CR", "PatientName": "Люкceмбypг",
        "SpecificCharacterSet": "ISO_IR 144",
    },
    "UTF-8": {"PatientName": "Горбачёв^Михаил=山田^太郎", "SpecificCharacterSet": "ISO_IR 192"},
    "bare": {"without": ("PatientName", "PatientID", "PatientOrientation", "ImagerPixelSpacing", "StudyDate")},
}  # fmt: skip


def bring(desk: Ledger, number: int = 1, study_uid: str = STUDY, **elements: Any) -> str:
    """A radiograph is taken in; returns its SOP Instance UID."""
    uid = f"{study_uid}.1.{number}"
    uids = {"StudyInstanceUID": study_uid, "SeriesInstanceUID": f"{study_uid}.1", "SOPInstanceUID": uid}
    pixels = picture()
    pixels[10, 10] = number
    content = dicom_file(pixels, **uids | elements)
    desk.settings.home.mkdir(parents=True, exist_ok=True)
    file = desk.settings.home / "received"
    file.write_bytes(content)
    digest, crc = sums_of(content)
    intake = Intake(desk.settings, desk.database, desk.store)
    received = ReceivedObject(file, f"dicom:TEST/{uid}", digest, crc, len(content), Priority.ROUTINE)
    take_in(intake, received, read_header(file, intake.limits), desk.clock())
    return uid


def screen(desk: Ledger, *probabilities: float, study_uid: str = STUDY, **options: Any) -> None:
    """Let the study settle, and record its verdict with the settings of the desk."""
    desk.clock.forward(hours=1)
    desk.screen(study_uid, *probabilities, **options)


def overlay_in_store(desk: Ledger) -> None:
    """Record the digest of a real PNG as the overlay of every finding."""
    overlay = np.full((500, 768, 3), 90, np.uint8)
    digest = desk.store.put("overlays", cv2.imencode(".png", overlay)[1].tobytes())
    with desk.database.writing() as session:
        session.execute(
            text("UPDATE finding SET overlay_digest = :digest WHERE probability IS NOT NULL"), {"digest": digest}
        )


class ArchiveOfTest:
    """An archive that keeps what it gets, and answers as the test says."""

    def __init__(self) -> None:
        self.objects: list[Dataset] = []
        self.status = 0x0000
        self.classes: list[str] = [
            "1.2.840.10008.5.1.4.1.1.88.34", "1.2.840.10008.5.1.4.1.1.88.22", "1.2.840.10008.5.1.4.1.1.88.59",
            "1.2.840.10008.5.1.4.1.1.7",
        ]  # fmt: skip
        self.port = 0

    @contextmanager
    def listening(self) -> Iterator["ArchiveOfTest"]:
        entity = AE("ARCHIVE")
        for sop_class in self.classes:
            entity.add_supported_context(sop_class)
        server = entity.start_server(
            ("127.0.0.1", self.port), block=False, evt_handlers=[(evt.EVT_C_STORE, self._store)]
        )
        assert server is not None
        self.port = server.server_address[1]
        try:
            yield self
        finally:
            server.shutdown()

    def _store(self, event: evt.Event) -> int:
        ds = event.dataset
        ds.file_meta = event.file_meta
        if self.status == 0x0000:
            self.objects.append(ds)
        return self.status

    @property
    def uids(self) -> set[str]:
        return {str(ds.SOPInstanceUID) for ds in self.objects}


def to_archive(desk: Ledger, archive: ArchiveOfTest, **changes: Any) -> None:
    """The settings of the desk from now on."""
    desk.settings = attrs.evolve(desk.settings, send=f"ARCHIVE@127.0.0.1:{archive.port}", **changes)


def sender_of(desk: Ledger) -> Sender:
    """A sender of this desk."""
    quiet_library()
    composer = Composer.of(desk.settings, desk.database, desk.store)
    return Sender(desk.database, composer, destination_of(desk.settings), desk.settings.send, desk.clock)


def written(ds: Dataset) -> Dataset:
    """A data set as it comes out of a file."""
    file = BytesIO()
    ds.save_as(file, enforce_file_format=True)
    return dcmread(BytesIO(file.getvalue()))


def sent(desk: Ledger, outbox: Path) -> list[Dataset]:
    """Everything in an outbox after what is due was sent."""
    while sender_of(desk).turn():
        pass
    return [dcmread(path) for path in sorted(outbox.glob("*.dcm"))]
