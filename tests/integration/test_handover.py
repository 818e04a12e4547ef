"""A file of the inbox becomes one of the store by a link: whenever that is cut short, its bytes are whole somewhere."""

import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import text

from tests.killed_intake import settings_of, take_in
from tests.phantoms import dicom_file, picture
from worker.intake.held_file import Step
from worker.ledger.connect import open_database
from worker.monitoring.reconciliation import reconcile
from worker.store import OBJECTS, sums_of
from worker.store.folder import FolderStore

CONTENT = dicom_file(picture(rows=600))
DIGEST = sums_of(CONTENT)[0]

#: How long the processes of all steps may take on a busy machine.
LONGEST_S = 500

pytestmark = pytest.mark.timeout(2 * LONGEST_S)

#: The steps after which the row is durable.
BOOKED = (Step.BOOKED, Step.MARKED, Step.REMOVED)

#: Keeps what a power cut would leave of a step's small disk, and the database beside it, whose commits are durable.
CUT = """#!/bin/sh
cp --sparse=always "$1/disk.img" "$1/cut.img" && cp -r "$1/home" "$1/cut_home"
"""


def drop(folder: Path) -> Path:
    """A file with the date and mode of its sender."""
    inbox = folder / "disk" / "inbox"
    inbox.mkdir(parents=True)
    path = inbox / "a.dcm"
    path.write_bytes(CONTENT)
    path.chmod(0o644)
    os.utime(path, (10**9, 10**9))
    return path


def take_in_and_be_killed(root: Path, *cut: Path) -> None:
    """A process for each step, killed after it: run `tests.killed_intake`."""
    command = [sys.executable, "-m", "tests.killed_intake"]
    running = {
        step: subprocess.Popen([*command, step, root / step, *cut], stderr=subprocess.PIPE, text=True) for step in Step
    }
    said = {step: process.communicate(timeout=500)[1] for step, process in running.items()}
    for step, process in running.items():
        assert process.returncode == -signal.SIGKILL, f"after {step}: {process.returncode}\n{said[step]}"


def rows(folder: Path, home: Path | None = None) -> int:
    """How many images the ledger has; raises AssertionError when its sums do not hold."""
    settings = settings_of(folder, home)
    with closing(open_database(settings)) as database, database.engine.connect() as connection:
        account = reconcile(database, FolderStore(Path(settings.store)))
        assert account.holds, account
        return int(connection.execute(text("SELECT count(*) FROM instance")).scalar_one())


def require_whole(folder: Path, step: Step, home: Path | None = None) -> None:
    """Whatever was cut short, the bytes are whole: in the inbox, or in the store of a row that is durable."""
    inbox, store = folder / "disk" / "inbox" / "a.dcm", FolderStore(folder / "disk" / "store")
    assert rows(folder, home) == (step in BOOKED)
    if step in BOOKED:
        assert store.get(OBJECTS, DIGEST) == CONTENT
    if inbox.exists():
        assert inbox.read_bytes() == CONTENT
    else:
        assert step is Step.REMOVED


def require_taken_in(folder: Path, home: Path | None = None) -> None:
    """A watcher that starts again leaves one image, its bytes in the store alone, for nobody else to read."""
    take_in(folder, home=home)
    assert rows(folder, home) == 1
    assert list((folder / "disk" / "inbox").iterdir()) == []
    stored = FolderStore(folder / "disk" / "store").path(OBJECTS, DIGEST)
    assert stored.read_bytes() == CONTENT
    status = stored.stat()
    assert (stat.S_IMODE(status.st_mode), status.st_nlink, status.st_mtime > 10**9 + 1) == (0o600, 1, True)


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each step, after which the process that took its file in was killed."""
    root = tmp_path_factory.mktemp("killed")
    for step in Step:
        drop(root / step)
    take_in_and_be_killed(root)
    return root


@pytest.mark.slow
@pytest.mark.parametrize("step", Step)
def test_a_process_killed_after_a_step_loses_nothing(killed: Path, step: Step) -> None:
    folder = killed / step
    stored = FolderStore(folder / "disk" / "store").path(OBJECTS, DIGEST)
    assert stored.exists() is (step is not Step.READ)
    require_whole(folder, step)
    require_taken_in(folder)


def test_what_was_linked_keeps_date_and_mode_of_its_sender_until_it_is_booked(tmp_path: Path) -> None:
    seen = {}
    path = drop(tmp_path)

    def look(step: Step) -> None:
        status = path.stat() if path.exists() else None
        seen[step] = status and (stat.S_IMODE(status.st_mode), status.st_mtime > 10**9, status.st_nlink)

    take_in(tmp_path, look)
    before, after = (0o644, False), (0o600, True)
    linked = dict.fromkeys((Step.LINKED, Step.STORED, Step.BOOKED), (*before, 2))
    assert seen == {Step.READ: (*before, 1), **linked, Step.MARKED: (*after, 2), Step.REMOVED: None}


@contextmanager
def mounted(image: Path, folder: Path) -> Iterator[None]:
    """A small disk, written to the image only when it is asked to be."""
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-o", "loop,commit=300", str(image), str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def can_mount(folder: Path) -> bool:
    """Whether this process may make and mount a disk of its own."""
    if os.geteuid() != 0 or shutil.which("mkfs.ext4") is None:
        return False
    make_disk(folder / "try.img")
    (folder / "try").mkdir()
    tried = subprocess.run(
        ["mount", "-o", "loop", str(folder / "try.img"), str(folder / "try")], capture_output=True, check=False
    )
    return tried.returncode == 0 and subprocess.run(["umount", str(folder / "try")], check=False).returncode == 0


def make_disk(image: Path) -> None:
    """An empty ext4 of 24 MiB."""
    with image.open("wb") as file:
        file.truncate(24 * 2**20)
    subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], check=True)


@pytest.fixture(scope="module")
def cut_off(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each step with the image of its disk as the power cut after that step left it."""
    root = tmp_path_factory.mktemp("cut_off")
    if not can_mount(root):
        pytest.skip("mounting needs root, and mkfs.ext4")
    steps, cut = root / "steps", root / "cut.sh"
    cut.write_text(CUT)
    cut.chmod(0o755)
    with ExitStack() as disks:
        for step in Step:
            folder = steps / step
            folder.mkdir(parents=True)
            make_disk(folder / "disk.img")
            disks.enter_context(mounted(folder / "disk.img", folder / "disk"))
            drop(folder)
            (folder / "disk" / "store" / OBJECTS / DIGEST[:2]).mkdir(parents=True, mode=0o700)
            subprocess.run(["sync", "-f", str(folder / "disk")], check=True)
        take_in_and_be_killed(steps, cut)
    return steps


@pytest.mark.slow
@pytest.mark.parametrize("step", Step)
def test_a_power_cut_after_a_step_loses_nothing(cut_off: Path, step: Step) -> None:
    folder = cut_off / step
    home = folder / "cut_home"
    with mounted(folder / "cut.img", folder / "disk"):
        require_whole(folder, step, home)
        require_taken_in(folder, home)
