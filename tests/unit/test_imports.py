"""Our package names do not collide, and reading the worklist imports no large library."""

import shutil
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from schema.database import Database
from tests.ledger import STUDY, Clock, Ledger
from worker.settings import Settings
from worker.store.folder import FolderStore

OURS = "chest-screening"
HEAVY = ("onnxruntime", "cv2", "pydicom", "celery", "kombu", "tensorflow", "keras", "imagecodecs", "alembic", "redis")


def loaded_by(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("package", ["worker", "trainer", "schema"])
def test_no_other_distribution_provides_our_packages(package: str) -> None:
    assert set(packages_distributions().get(package, [])) <= {OURS}


@pytest.mark.parametrize(
    "statement",
    ["import worker.cli.main, worker.worklist.unread_list", "import worker.ledger.connect"],
)
def test_a_reader_loads_nothing_heavy(statement: str) -> None:
    assert loaded_by(statement) & set(HEAVY) == set()


def test_the_worklist_verb_loads_nothing_heavy_either(tmp_path: Path, migrated_sqlite: Path) -> None:
    shutil.copy(migrated_sqlite, tmp_path / "screening.sqlite")
    run = (
        f"import os; os.environ['SCREENING_HOME'] = {str(tmp_path)!r}; from worker.cli.main import app; "
        "app(['worklist', '--json'], standalone_mode=False)"
    )
    assert loaded_by(run) & set(HEAVY) == set()


@pytest.mark.parametrize("words", [["worklist", "--json"], ["worklist"], ["show", STUDY], ["quarantine"]])
def test_reading_a_list_with_an_overdue_study_loads_nothing_heavy(
    tmp_path: Path, migrated_sqlite: Path, words: list[str]
) -> None:
    file = tmp_path / "screening.sqlite"
    shutil.copy(migrated_sqlite, file)
    settings = Settings(home=tmp_path)
    desk = Ledger(Database(f"sqlite:///{file}"), settings, FolderStore(tmp_path / "store"), Clock())
    desk.clock.now = datetime(2020, 1, 1, tzinfo=UTC)
    desk.receive()
    desk.database.close()
    run = (
        f"import os; os.environ['SCREENING_HOME'] = {str(tmp_path)!r}; from worker.cli.main import app; "
        f"app({words!r}, standalone_mode=False)"
    )
    assert loaded_by(run) & set(HEAVY) == set()


def test_the_ledger_sees_no_codec_and_no_queue() -> None:
    """Writers of rows import the judgement's types, and neither decoders nor the broker's client."""
    loaded = loaded_by("import worker.ledger.intake.register, worker.ledger.screening.claims, worker.ledger.decisions")
    assert loaded & {"cv2", "pydicom", "imagecodecs", "onnxruntime", "celery", "redis"} <= {"cv2"}


def test_nothing_dials_or_opens_a_session_at_import() -> None:
    code = (
        "import socket, sys; dialled = []; sys.addaudithook(lambda e, a: dialled.append(a) if e == 'socket.connect' "
        "else None); import worker.app, worker.tasks, "
        "worker.service.screen_paths, worker.service.watch_inbox, worker.cli.main; sys.exit(str(dialled or '') or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
