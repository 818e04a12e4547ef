"""A device that dies under a running worker: its process ends, no study fails, no model is refused, it is counted."""

import shutil
import sqlite3
from pathlib import Path

import pytest

from tests.acceptance.installation import QUICK, SAMPLES, Installation, celery, events, wait_until
from worker.runtime.children import child
from worker.settings import Settings


@pytest.mark.slow
def test_a_process_whose_device_failed_ends_and_the_next_one_screens(broker: Settings, tmp_path: Path) -> None:
    dead = tmp_path / "dead"
    urls = {"SCREENING_BROKER": broker.broker_url, "DEAD_DEVICE": str(dead)}
    site, inbox = Installation(tmp_path / "home", {**QUICK, **urls}), tmp_path / "inbox"
    inbox.mkdir()
    site.run("db", "upgrade")
    command = ["tests.failing_device" if word == "worker.app" else word for word in celery()]
    log = tmp_path / "celery.log"

    def told(event: str) -> int:
        return sum(line["event"] == event for line in events(log))

    with (
        child(site.command("watch", inbox), tmp_path / "watch.log", 30, site.environment()),
        child(command, log, 30, site.environment()),
    ):
        shutil.copy(SAMPLES / "clara_jpegls.dcm", inbox / "a.dcm")
        wait_until(lambda: told("study_screened") == 1, 90)
        dead.touch()
        shutil.copy(SAMPLES / "ida_8_bit.png", inbox / "b.png")
        wait_until(lambda: told("device_failed") >= 1, 60)
        dead.unlink()  # for the process that has seen it, the device stays dead
        wait_until(lambda: told("study_screened") == 2, 90)
        with sqlite3.connect(site.home / "screening.sqlite") as connection:
            assert connection.execute("SELECT state, attempts FROM study").fetchall() == [("screened", 0)] * 2
            actions = connection.execute("SELECT action FROM promotion").fetchall()
            failures = connection.execute("SELECT message FROM device_failure").fetchall()
        assert actions == [("installed",)], "no model was refused"
        assert len(failures) == 1, "once a minute"
        assert "illegal memory access" in failures[0][0]
        (provider,) = [line for line in site.json("check", code=1) if line["what"] == "provider"]
        assert "illegal memory access" in provider["message"]
        assert "screening_device_failures_total 1.0" in site.run("metrics", "--once")
