"""A real archive, Orthanc, takes reports and pictures into the study of their source, each once."""

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import attrs
import pytest
from pydicom import dcmread
from pynetdicom import AE
from sqlalchemy import text

from schema.setting_values import Retract
from tests.ledger import Ledger
from tests.phantoms import DX_FOR_PRESENTATION, EXPLICIT_LITTLE
from tests.sent_results import STUDY, bring, overlay_in_store, screen, sender_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("Orthanc") is None, reason="no Orthanc here"),
    pytest.mark.parametrize("kind", ["sqlite"]),
]


def free_port() -> int:
    with socket.socket() as plain:
        plain.bind(("127.0.0.1", 0))
        return int(plain.getsockname()[1])


class Orthanc:
    """An Orthanc of our own, with an empty folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.dicom, self.http = folder, free_port(), free_port()
        self.configuration = folder / "orthanc.json"
        self.configuration.write_text(
            json.dumps(
                {
                    "StorageDirectory": str(folder / "db"), "IndexDirectory": str(folder / "db"), "Plugins": [],
                    "DicomPort": self.dicom, "HttpPort": self.http, "DicomAet": "ARCHIVE",
                    "AuthenticationEnabled": False, "RemoteAccessAllowed": False, "OverwriteInstances": False,
                }
            )
        )  # fmt: skip

    @contextmanager
    def running(self) -> Iterator[None]:
        with (self.folder / "orthanc.log").open("ab") as log:
            process = subprocess.Popen(["Orthanc", str(self.configuration)], stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + 30
            while True:
                with socket.socket() as plain:
                    if plain.connect_ex(("127.0.0.1", self.dicom)) == 0:
                        break
                assert time.monotonic() < deadline
                time.sleep(0.1)
            yield
        finally:
            process.terminate()
            process.wait(30)

    def ask(self, path: str) -> Any:
        with urlopen(f"http://127.0.0.1:{self.http}{path}", timeout=20) as answer:
            return json.loads(answer.read())

    def series_of(self, study_uid: str) -> dict[str, int]:
        """Number of objects by modality in one study."""
        found: dict[str, int] = {}
        for study in self.ask("/studies"):
            if self.ask(f"/studies/{study}")["MainDicomTags"]["StudyInstanceUID"] != study_uid:
                continue
            for series in self.ask(f"/studies/{study}/series"):
                modality = series["MainDicomTags"]["Modality"]
                found[modality] = found.get(modality, 0) + len(series["Instances"])
        return found


def test_reports_and_pictures_lie_in_the_study_of_their_source_each_once(desk: Ledger, tmp_path: Path) -> None:
    orthanc = Orthanc(tmp_path)
    desk.settings = attrs.evolve(
        desk.settings, send=f"ARCHIVE@127.0.0.1:{orthanc.dicom}", results="report,overlay", retract=Retract.IOCM
    )
    bring(desk, PatientName="Doe^Jane", PatientID="P1")
    with orthanc.running():
        entity = AE("MODALITY1")
        entity.add_requested_context(DX_FOR_PRESENTATION, [EXPLICIT_LITTLE])
        association = entity.associate("127.0.0.1", orthanc.dicom, ae_title="ARCHIVE")
        (stored,) = desk.store.files("objects")
        assert association.send_c_store(dcmread(stored.place)).Status == 0x0000
        association.release()
        screen(desk, 0.9)
        overlay_in_store(desk)
        while sender_of(desk).turn():
            pass
        assert orthanc.series_of(STUDY) == {"DX": 1, "SR": 1, "OT": 1}
    bring(desk, 2, PatientName="Doe^Jane", PatientID="P1")
    screen(desk, 0.2)
    overlay_in_store(desk)
    for _ in range(6):  # the archive is away for an hour
        sender_of(desk).turn()
        desk.clock.forward(600)
    with orthanc.running():
        desk.clock.forward(hours=1)
        while sender_of(desk).turn():
            pass
        assert orthanc.series_of(STUDY) == {"DX": 1, "SR": 2, "OT": 2, "KO": 1}
    assert {row.state for row in desk_dispatches(desk)} == {"sent"}


def desk_dispatches(desk: Ledger) -> list[Any]:
    with desk.database.reading() as connection:
        return list(connection.execute(text("SELECT * FROM dispatch")))
