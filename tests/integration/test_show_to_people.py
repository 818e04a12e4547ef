"""What the program shows to people of real studies: the picture beside its heat map, the model's card."""

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from tests.brightness_model import write_image, write_model
from tests.ledger import Ledger
from tests.screen_one_study import screen_study
from worker.cli.main import app
from worker.inference.model import open_model
from worker.intake.folder_scan import incoming
from worker.intake.ingest import Intake
from worker.ledger.screening import outbox
from worker.screen_study import StudyScreener

pytestmark = pytest.mark.parametrize("kind", ["sqlite"])


def ask(desk: Ledger, *words: str | Path) -> str:
    environment = {"SCREENING_HOME": str(desk.settings.home), "SCREENING_DATABASE": desk.database.url}
    done = CliRunner().invoke(app, list(map(str, words)), env=environment, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture
def study_uid(desk: Ledger, tmp_path: Path) -> str:
    """A flagged study whose image lies beyond its model's familiarity limit."""
    file = write_image(tmp_path / "inbox" / "bright.png", 200)
    found = incoming(file)
    assert found is not None
    intake = Intake(desk.settings, desk.database, desk.store)
    taken = intake.take_in(found, desk.clock(), is_final=True, is_settled=True, inbox=file.parent)
    assert taken.study_uid is not None
    outbox.offer(desk.database, desk.clock())
    model = open_model(write_model(tmp_path / "model.onnx", familiarity_limit=0.5))
    screen_study(
        StudyScreener(desk.settings, desk.database, desk.store, model, desk.clock), taken.study_uid, desk.clock()
    )
    return taken.study_uid


def test_the_picture_beside_the_plain_image(desk: Ledger, study_uid: str, tmp_path: Path) -> None:
    out = tmp_path / "picture.png"
    assert ask(desk, "open", study_uid, "--out", out).strip() == str(out)
    both = np.asarray(cv2.imread(str(out)))
    overlay = np.asarray(cv2.imread(desk.entry(study_uid).heatmap or ""))
    plain = both[:, : both.shape[1] - overlay.shape[1]]
    assert (both[:, plain.shape[1] :] == overlay).all(), "the heat map on the right"
    assert plain.shape[1] / plain.shape[0] == pytest.approx(48 / 40, rel=0.01)
    assert abs(int(np.median(plain)) - 200) < 3, "the radiograph on the left"


def test_a_flag_beyond_the_limit_is_marked_on_the_list(desk: Ledger, study_uid: str) -> None:
    shown = ask(desk, "worklist")
    assert "unlike" in shown
    assert "flagged" in shown
    assert "unlike the images this model was made from (familiarity" in ask(desk, "show", study_uid)


def test_the_card_is_shown_without_raw_values(desk: Ledger) -> None:
    desk.receive()
    shown = ask(desk, "model", "show")
    assert "{" not in shown
    assert "flags        from a probability of 0.4971 on" in shown
    assert "population   children of 1 to 5 years" in shown
    assert "in full" not in shown, "the shipped model's rule is pyramid53"


def test_pictures_without_a_place_of_their_own_replace_each_other(
    desk: Ledger, study_uid: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    paths = {ask(desk, "open", study_uid).split(" (")[0].strip() for _ in range(2)}
    (path,) = map(Path, paths)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert path.parent.stat().st_mode & 0o077 == 0, "nobody else may look"
    assert [*(tmp_path / "tmp").iterdir()] == []
    assert [*(tmp_path / "run").rglob("*.png")] == [path]


def test_a_picture_whose_file_is_lost_is_no_traceback(desk: Ledger, study_uid: str) -> None:
    for file in desk.store.folder.glob("objects/*/*"):
        file.write_bytes(b"damaged")
    plain = {name: value for name, value in os.environ.items() if not name.startswith("SCREENING_")}
    places = {"SCREENING_HOME": str(desk.settings.home), "SCREENING_DATABASE": desk.database.url}
    command = [sys.executable, "-m", "worker", "open", study_uid]
    done = subprocess.run(command, env=plain | places, capture_output=True, text=True, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (1, False), done.stderr
    assert "restore it from a backup" in done.stderr
