"""`worker receive` while its PostgreSQL is killed: objects are refused for now, and all arrive by themselves later."""

import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE

from schema.database import Database
from tests.chaos.servers import PostgresServer
from tests.integration.test_receiver_process import Process
from tests.phantoms import DX_FOR_PRESENTATION, EXPLICIT_LITTLE
from tests.receiver import CALLER, OURS, radiograph
from worker.monitoring.reconciliation import reconcile
from worker.store.folder import FolderStore

OUT_OF_RESOURCES = 0xA700


def send_until_kept(port: int, objects: list[Dataset], answers: list[int]) -> None:
    """Send each object again until it is answered with success, as a PACS does; notes every answer."""
    left = list(objects)
    while left:
        entity = AE(CALLER)
        entity.add_requested_context(DX_FOR_PRESENTATION, [EXPLICIT_LITTLE])
        association = entity.associate("127.0.0.1", port, ae_title=OURS)
        while left and association.is_established:
            answer = association.send_c_store(left[0])
            if "Status" not in answer:
                break
            answers.append(int(answer.Status))
            if answer.Status == 0x0000:
                left.pop(0)
            else:
                time.sleep(0.2)
        if association.is_established:
            association.release()
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_what_comes_while_the_database_is_away_is_refused_and_arrives_later(tmp_path: Path) -> None:
    folder = Path(tempfile.mkdtemp(prefix="pg"))  # its own account must reach it, by a short path
    postgres = PostgresServer(folder / "pg")
    try:
        receiver = Process(tmp_path / "home", SCREENING_DATABASE=postgres.url)
        upgrade = [sys.executable, "-m", "worker", "db", "upgrade"]
        subprocess.run(upgrade, env=receiver.environment, check=True, capture_output=True)
        with receiver.running():
            before: list[int] = []
            send_until_kept(receiver.port, [radiograph(1)], before)
            assert before[-1] == 0x0000
            postgres.kill()
            answers: list[int] = []
            objects = [radiograph(number) for number in (2, 3, 4)]
            sending = threading.Thread(target=send_until_kept, args=[receiver.port, objects, answers], daemon=True)
            sending.start()
            deadline = time.monotonic() + 120
            while answers.count(OUT_OF_RESOURCES) < 3:
                assert time.monotonic() < deadline, answers
                time.sleep(0.05)
            assert set(answers) == {OUT_OF_RESOURCES}
            postgres.start()
            sending.join(240)
            assert not sending.is_alive(), answers
        assert answers.count(0x0000) == 3
        assert set(answers) == {OUT_OF_RESOURCES, 0x0000}
        database, store = Database(postgres.url), FolderStore(receiver.home / "store")
        account = reconcile(database, store)
        assert (account.holds, account.files.get("accepted")) == (True, 4)
        database.close()
        assert list((receiver.home / "store" / "spool").rglob("*.partial")) == []
    finally:
        postgres.stop()
        shutil.rmtree(folder, ignore_errors=True)
