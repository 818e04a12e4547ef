"""`worker receive` as a process: killed at any moment it has lost nothing that it answered, and it ends when asked."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pynetdicom import AE
from sqlalchemy import text

from schema.database import Database
from tests.phantoms import DX_FOR_PRESENTATION
from tests.receiver import CALLER, OURS, radiograph, store_all
from worker.monitoring.reconciliation import reconcile
from worker.store.folder import FolderStore


def free_port() -> int:
    with socket.socket() as plain:
        plain.bind(("127.0.0.1", 0))
        return int(plain.getsockname()[1])


class Process:
    """A receiver in a state folder, started again on the same port as often as a test likes."""

    def __init__(self, home: Path, **settings: str) -> None:
        self.home, self.port = home, free_port()
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("SCREENING_")},
            "SCREENING_HOME": str(home), "SCREENING_RECEIVE_PORT": str(self.port),
            "SCREENING_RECEIVE_FROM": CALLER, "SCREENING_RECEIVE_METRICS_PORT": "0", "SCREENING_MIN_FREE_MIB": "1",
            **settings,
        }  # fmt: skip
        self.log = home.with_suffix(".log")

    @contextmanager
    def running(self) -> Iterator["subprocess.Popen[bytes]"]:
        process = self.start()
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def start(self) -> "subprocess.Popen[bytes]":
        with self.log.open("ab") as log:
            process = subprocess.Popen([sys.executable, "-m", "worker", "receive"], env=self.environment, stderr=log)
        try:
            self._wait_until_it_listens(process)
        except AssertionError:
            process.kill()  # it would outlive the test
            process.wait()
            raise
        return process

    def _wait_until_it_listens(self, process: "subprocess.Popen[bytes]") -> None:
        deadline = time.monotonic() + 400
        while True:
            with socket.socket() as plain:
                if plain.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            assert process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, "it does not listen"
            time.sleep(0.05)


@pytest.mark.parametrize(("kills", "objects"), [(2, 6), pytest.param(20, 30, marks=pytest.mark.slow)])
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_what_was_answered_is_kept_however_often_it_is_killed(tmp_path: Path, kills: int, objects: int) -> None:
    callers = (CALLER, "MODALITY2")  # eight senders: four of each
    receiver = Process(tmp_path / "home", SCREENING_RECEIVE_FROM=",".join(callers))
    answered: set[str] = set()
    stop, chance = threading.Event(), random.Random(kills)
    process = receiver.start()
    batches = [[radiograph(sender * 1000 + number) for number in range(objects)] for sender in range(8)]
    senders = [
        threading.Thread(target=store_all, args=[receiver.port, batch, answered, stop, OURS, callers[at % 2]])
        for at, batch in enumerate(batches)
    ]
    for sender in senders:
        sender.start()
    try:
        for _ in range(kills):
            time.sleep(chance.uniform(0.02, 0.4))
            process.kill()
            process.wait()
            process = receiver.start()
        for sender in senders:
            sender.join(300)
    finally:
        stop.set()
        process.send_signal(signal.SIGTERM)
        assert process.wait(150) == 0
    database, store = Database(f"sqlite:///{receiver.home / 'screening.sqlite'}"), FolderStore(receiver.home / "store")
    with database.reading() as connection:
        kept = [row.sop_instance_uid for row in connection.execute(text("SELECT sop_instance_uid FROM instance"))]
    assert len(answered) == 8 * objects
    assert answered <= set(kept)  # none answered and lost
    assert len(kept) == len(set(kept))  # none doubled
    assert reconcile(database, store).holds
    database.close()
    assert list((receiver.home / "store" / "spool").rglob("*.partial")) == []


def test_it_ends_on_sigterm_and_its_log_has_no_word_of_a_header(tmp_path: Path) -> None:
    receiver = Process(tmp_path / "home")
    planted = "PLANTED<script>"
    with receiver.running() as process:
        answered: set[str] = set()
        ds = radiograph(1, PatientName=planted, PatientID=planted, AccessionNumber="PLANTED")
        store_all(receiver.port, [ds], answered, threading.Event())
        entity = AE("STRANGER")
        entity.add_requested_context(DX_FOR_PRESENTATION)
        assert entity.associate("127.0.0.1", receiver.port, ae_title="ELSEWHERE").is_rejected
        with socket.create_connection(("127.0.0.1", receiver.port)) as plain:
            plain.sendall(b"PLANTED\r\n\x1b[31m")
        process.send_signal(signal.SIGTERM)
        assert process.wait(150) == 0  # 20 s for what is under way; the rest is a busy machine's
    lines = receiver.log.read_text(encoding="utf-8").splitlines()
    events = [json.loads(line) for line in lines if line.startswith("{")]
    assert "PLANTED" not in "\n".join(lines)
    assert len(events) >= len(lines) - 1  # all but the line that says where it listens
    assert {"association_accepted", "object_answered"} <= {event["event"] for event in events}
    rejected = next(event for event in events if event["event"] == "association_rejected")
    assert (rejected["calling"], rejected["called"]) == ("STRANGER", "ELSEWHERE")


def test_it_loads_no_model_runtime_and_no_queue_worker() -> None:
    code = (
        "import sys, worker.dicom.receive.service, worker.dicom.send.sender; "
        "print(*{name.split('.')[0] for name in sys.modules} & {'onnxruntime', 'tensorflow', 'keras', 'celery'})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
