"""Every process is killed during work, and the same command finishes it."""

import os
import signal
import sqlite3
import subprocess
from pathlib import Path

import cv2
import numpy as np

from tests.acceptance.installation import QUICK, SAMPLES, Installation, wait_until

STUDIES = 40


def inbox_of(folder: Path) -> Path:
    """Distinct studies made of one real radiograph."""
    folder.mkdir()
    image = cv2.imread(str(SAMPLES / "klara_native.jpeg"), cv2.IMREAD_GRAYSCALE)
    assert image is not None
    for number in range(STUDIES):
        copy = np.array(image)
        copy[0, :8] = [255 * (number >> bit & 1) for bit in range(8)]
        cv2.imwrite(str(folder / f"study_{number:02d}.png"), copy)
    return folder


def screened(site: Installation) -> int:
    try:
        with sqlite3.connect(f"file:{site.home / 'screening.sqlite'}?mode=ro", uri=True) as connection:
            return int(connection.execute("SELECT COUNT(*) FROM study WHERE state = 'screened'").fetchone()[0])
    except sqlite3.OperationalError:
        return 0


def processes_of(site: Installation) -> set[int]:
    """Every living process that has our state folder in its environment."""
    mark = f"SCREENING_HOME={site.home}".encode()
    found = set()
    for folder in Path("/proc").iterdir():
        try:
            is_zombie = b") Z " in (folder / "stat").read_bytes()
            if folder.name.isdigit() and not is_zombie and mark in (folder / "environ").read_bytes().split(b"\0"):
                found.add(int(folder.name))
        except OSError:
            continue
    return found


def test_kill_everything_in_the_middle_and_go_on(tmp_path: Path) -> None:
    site, inbox = Installation(tmp_path / "home"), inbox_of(tmp_path / "inbox")
    running = subprocess.Popen(
        site.command("screen", inbox), env=site.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    wait_until(lambda: screened(site) >= 5, 60)
    for process in processes_of(site):
        os.kill(process, signal.SIGKILL)
    running.wait()
    assert 5 <= screened(site) < STUDIES
    entries = site.json("screen", inbox)
    assert [entry["state"] for entry in entries] == ["screened"] * STUDIES
    account = site.json("reconcile")
    assert account["holds"]
    assert account["studies"] == {"screened": STUDIES}
    with sqlite3.connect(site.home / "screening.sqlite") as connection:
        assert connection.execute("SELECT COUNT(*) FROM screening").fetchone()[0] == STUDIES


def test_nothing_outlives_its_owner(tmp_path: Path) -> None:
    site, inbox = Installation(tmp_path / "home"), tmp_path / "inbox"
    inbox.mkdir()
    running = subprocess.Popen(
        site.command("run", inbox), env=site.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    wait_until(lambda: len(processes_of(site)) >= 4, 60)  # ourselves, Redis, Celery and its children
    running.kill()
    running.wait()
    wait_until(lambda: not processes_of(site), 60)


def test_run_screens_what_is_dropped_refuses_a_twin_takes_work_and_drains(tmp_path: Path) -> None:
    site, inbox = Installation(tmp_path / "home", QUICK), tmp_path / "inbox"
    inbox.mkdir()
    log = (tmp_path / "log").open("wb")
    running = subprocess.Popen(site.command("run", inbox), env=site.environment(), stderr=log)
    try:
        wait_until(lambda: (site.home / "screening.sqlite").exists(), 60)
        (inbox / "dropped.dcm").write_bytes((SAMPLES / "clara_jpegls.dcm").read_bytes())
        wait_until(lambda: screened(site) == 1, 60)
        assert not (inbox / "dropped.dcm").exists(), "inbox_mode=move takes booked files out of the inbox"
        site.run("run", inbox, code=1)  # the state folder is in use
        site.run("screen", SAMPLES / "ida_8_bit.png")  # hands its work to the running one
        assert screened(site) == 2
    finally:
        running.send_signal(signal.SIGTERM)
        assert running.wait(timeout=500) == 0
        log.close()
    assert not processes_of(site)
    assert site.json("reconcile")["holds"]
