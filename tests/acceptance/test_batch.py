"""`worker batch` as its users run it: an archive in place, then a newer model over what is stored."""

import csv
import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text

from schema.database import Database
from tests.acceptance.installation import QUICK, SAMPLES, Installation, production, wait_until
from tests.brightness_model import write_model
from worker.runtime.children import child
from worker.settings import Settings


@pytest.mark.slow
def test_an_archive_is_screened_in_place_and_again_by_a_newer_model(tmp_path: Path) -> None:
    archive, reports = tmp_path / "archive", tmp_path / "reports"
    archive.mkdir()
    for name in ("ida_8_bit.png", "clara_jpegls.dcm", "report.txt"):
        shutil.copy(SAMPLES / name, archive)
    site = Installation(tmp_path / "home", {"SCREENING_MODEL": str(write_model(tmp_path / "old.onnx"))})
    said = site.run("batch", archive, "--rate", "50/s", "--report", reports)
    assert said.startswith("2 of 2 studies screened")
    assert len(list(archive.iterdir())) == 3
    assert site.json("reconcile")["files"] == {"accepted": 2, "quarantined": 1}
    newer = write_model(tmp_path / "new.onnx", gain=0.9, name="newer")
    later = Installation(site.home, {"SCREENING_MODEL": str(newer)})
    assert later.run("batch", "--rescreen", "--between", "00:00-00:00", "--report", reports).startswith("2 of 2")
    with closing(Database(Settings(home=site.home).database_url)) as database, database.reading() as connection:
        ends = connection.execute(text("SELECT fault, without_result FROM batch_run WHERE ended_at > began_at")).all()
    assert ends == [(None, 0), (None, 0)]
    tables = sorted(reports.glob("*[0-9].csv"))
    assert [path.name[23:] for path in sorted(reports.iterdir())] == [".csv", ".html", "_drift.csv"] * len(tables)
    with tables[-1].open(newline="", encoding="utf-8") as file:
        assert {row["state"] for row in csv.DictReader(file)} == {"screened"}
    assert {entry["priority"] for entry in later.json("worklist")} == {"nightly"}
    site.run("batch", code=64)
    site.run("batch", archive, "--rescreen", code=64)
    site.run("batch", archive, "--between", "late", code=64)


@pytest.mark.slow
def test_celery_beat_has_the_batch_of_the_night_started(tmp_path: Path) -> None:
    """Beat sends the message of its schedule; the batch runs in its own process and writes its report."""
    archive = tmp_path / "archive"
    archive.mkdir()
    shutil.copy(SAMPLES / "ida_8_bit.png", archive)
    settings = {"SCREENING_NIGHTLY": f"{archive} --between 00:00-00:00", "SCREENING_PROVIDER": "cpu", **QUICK}
    site, inbox = Installation(tmp_path / "home", settings), tmp_path / "inbox"
    inbox.mkdir()
    beat = [sys.executable, "-m", "celery", "-A", "worker.app", "beat", "--schedule", str(tmp_path / "schedule")]
    send = "from worker import app, nightly; app.app.send_task(nightly.START_BATCH, queue='nightly')"
    with production(site, inbox, tmp_path), child(beat, tmp_path / "beat.log", 30, site.environment()) as beating:
        reports = site.home / "reports"
        wait_until(Settings(home=site.home).broker_socket.exists, 60)
        subprocess.run([sys.executable, "-c", send], env=site.environment(), check=True, timeout=500)
        wait_until(lambda: any(reports.glob("*.html")), 90)
        wait_until(lambda: any(tmp_path.glob("schedule*")), 60)
        assert beating.poll() is None
    (page,) = reports.glob("*.html")
    assert "1 of 1 studies screened" in page.read_text(encoding="utf-8")
