"""Redis and PostgreSQL by URL, with watcher and Celery worker as separate processes."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.acceptance.house import QUICK, SAMPLES, House, production, wait_until
from worker.settings import Settings


@pytest.fixture
def house(empty_url: str, broker: Settings, tmp_path: Path) -> House:
    urls = {"SCREENING_DATABASE": empty_url, "SCREENING_BROKER": broker.broker_url}
    return House(tmp_path / "home", {**QUICK, **urls})


def test_watcher_and_celery_worker_share_broker_and_database(house: House, tmp_path: Path) -> None:
    assert "worker db upgrade" in refused(house)
    house.run("db", "upgrade")
    inbox = tmp_path / "inbox"
    (inbox / "stat").mkdir(parents=True)
    with production(house, inbox, tmp_path):
        shutil.copy(SAMPLES / "ida_8_bit.png", inbox / "routine.png")
        shutil.copy(SAMPLES / "clara_jpegls.dcm", inbox / "stat" / "urgent.dcm")
        wait_until(lambda: [e["state"] for e in house.json("worklist")] == ["screened"] * 2, 90)
    first, second = house.json("worklist")
    assert (first["priority"], first["band"], second["priority"]) == ("stat", 1, "routine")
    assert Path(first["heatmap"]).is_file()
    assert not list(inbox.rglob("*.*")), "booked files are taken out of the inbox"
    assert all(result["is_well"] for result in house.json("check"))
    assert house.json("reconcile")["holds"]


def refused(house: House) -> str:
    """What the program says of a database without tables."""
    done = subprocess.run(
        house.command("worklist"), capture_output=True, text=True, env=house.environment(), check=False
    )
    assert done.returncode == 1
    return done.stderr
