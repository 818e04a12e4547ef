"""`worker calibrate`: from readers' verdicts to the active model, with `trainer` as a child process."""

import shlex
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from schema.setting_values import UncertainReview
from schema.vocabulary import AuditAction, ReviewOutcome
from tests.brightness_model import write_image
from tests.ledger import Ledger
from tests.logistic_model import NORMALS, POSITIVES, probability, write_factory
from worker.cli.main import app
from worker.errors import BadData, NoTrainer
from worker.export.consecutive import consecutive
from worker.imaging.image_file import read_instance
from worker.inference.model import open_model
from worker.ledger import audit, decisions
from worker.ledger.decisions import Seen
from worker.ledger.intake.arrivals import Incoming, Receipt
from worker.ledger.intake.register import register
from worker.ledger.operations import promotions
from worker.ledger.operations.promotions import Decision
from worker.store import OBJECTS


def take_in(desk: Ledger, folder: Path, grey: int, number: int) -> str:
    """A study of one brightness, taken in and screened; its UID."""
    path = write_image(folder / f"{number}.png", grey, noise=number)
    content = path.read_bytes()
    header = read_instance(content)
    receipt = Receipt(Incoming(str(path), len(content), 1), header, desk.store.put(OBJECTS, content), is_settled=True)
    register(desk.database, receipt, desk.settings, desk.clock())
    desk.screen(header.study_uid, probability(grey), headers=[header])
    desk.clock.forward(60)
    return header.study_uid


def read(desk: Ledger, study_uid: str, outcome: ReviewOutcome) -> None:
    decisions.review(desk.database, study_uid, outcome, "Dr Test", None, desk.clock())


def read_studies(desk: Ledger, folder: Path, normals: int, positives: int) -> list[str]:
    """Studies as they come, each read; normals and positives mixed."""
    greys = [(grey, ReviewOutcome.NO_PNEUMONIA) for grey in NORMALS[::-1][:normals]]
    greys += [(grey, ReviewOutcome.PNEUMONIA) for grey in POSITIVES[:positives]]
    uids = []
    for number, (grey, outcome) in enumerate(sorted(greys, key=lambda each: hash(each[0]) % 7)):
        uids.append(take_in(desk, folder, grey, number))
        read(desk, uids[-1], outcome)
    return uids


def environment(desk: Ledger, home: Path, factory: Path) -> dict[str, str]:
    return {
        "SCREENING_HOME": str(home),
        "SCREENING_DATABASE": desk.database.url,
        "SCREENING_STORE": str(desk.store.folder),
        "SCREENING_MODEL": str(factory),
    }


def run(desk: Ledger, home: Path, factory: Path, *words: str) -> Result:
    env = environment(desk, home, factory)
    return CliRunner().invoke(app, ["calibrate", "--by", "Dr A", *words], env=env)


def promoted(desk: Ledger) -> list[Decision]:
    return [decision for decision in promotions.history(desk.database) if decision.action == "promoted"]


@pytest.mark.slow
def test_from_verdicts_to_a_promoted_point_when_confirmed(desk: Ledger, tmp_path: Path) -> None:
    factory, out = write_factory(tmp_path / "factory.onnx"), tmp_path / "point"
    read_studies(desk, tmp_path / "images", 40, 20)
    said = run(desk, tmp_path / "home", factory, "--out", str(out), "--place", "North Hospital")
    assert said.exit_code == 0, said.output
    assert (
        "60 consecutive studies, 2026-03-02 to 2026-03-02, every one read: 20 with pneumonia, 40 without" in said.output
    )
    assert "60 images of 60 studies" in said.output
    assert "20 of 20 found, 38 of 40 normals left alone" in said.output, "r = 3 of 40"
    assert "specificity 0.950 [0.835, 0.986] on 40 images; the factory's point: 0." in said.output
    assert "local sensitivity not shown: 20 patients with pneumonia, 59 are needed" in said.output
    (told_how,) = (line for line in said.output.splitlines() if line.startswith("nothing was promoted"))
    words = shlex.split(told_how.partition(": ")[2])
    assert words[:4] == ["worker", "model", "promote", str(out / "point.onnx")]
    assert words[-2:] == ["--by", "Dr A"], "to be pasted into a shell"
    assert (out / "trade_off.svg").stat().st_size > 1000
    assert promoted(desk) == []
    told = open_model(out / "point.onnx", "cpu").card.site
    assert told is not None
    assert told.place == "North Hospital, 2026-03-02 to 2026-03-02"

    said = run(desk, tmp_path / "home", factory, "--out", str(tmp_path / "again"), "--yes")
    assert said.exit_code == 0, said.output
    assert "logistic_site is the active model: the same weights at another point" in said.output
    (decision,) = promoted(desk)
    assert decision.decided_by == "Dr A"
    shown = CliRunner().invoke(app, ["model", "show"], env=environment(desk, tmp_path / "home", factory))
    assert "point set at this installation, 2026-03-02 to 2026-03-02, on 20 images with and 40 without" in shown.output
    assert "local sensitivity not shown" in shown.output
    assert "there, from 0.1000 on: sensitivity 1.0000" in shown.output

    said = run(desk, tmp_path / "home", factory, "--out", str(tmp_path / "third"))
    assert said.exit_code == 0, said.output
    third = open_model(tmp_path / "third" / "point.onnx", "cpu").card.site
    assert third is not None
    assert third.factory_digest == open_model(factory, "cpu").digest, "always from the file as it was made"


def test_what_the_trainer_refuses_promotes_nothing(desk: Ledger, tmp_path: Path) -> None:
    factory = write_factory(tmp_path / "factory.onnx")
    read_studies(desk, tmp_path / "images", 10, 5)
    said = run(desk, tmp_path / "home", factory, "--out", str(tmp_path / "point"), "--yes")
    assert isinstance(said.exception, BadData)
    assert "`trainer calibrate` ended with 1" in str(said.exception)
    assert promoted(desk) == []


def test_without_a_trainer_it_says_how_to_install_one(
    desk: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    said = run(desk, tmp_path / "home", write_factory(tmp_path / "factory.onnx"), "--out", str(tmp_path / "point"))
    assert isinstance(said.exception, NoTrainer)
    assert "chest-screening[trainer]" in str(said.exception)


def test_a_program_that_cannot_be_started_is_named(desk: Ledger, tmp_path: Path) -> None:
    read_studies(desk, tmp_path / "images", 2, 2)
    factory, none = write_factory(tmp_path / "factory.onnx"), tmp_path / "none"
    said = run(desk, tmp_path / "home", factory, "--out", str(tmp_path / "point"), "--trainer", str(none))
    assert isinstance(said.exception, NoTrainer)
    assert f"{none} cannot be started (No such file or directory)" in str(said.exception)


def test_only_a_stretch_without_unread_studies_is_taken(desk: Ledger, tmp_path: Path) -> None:
    """Readers who read what is flagged choose the images; what they left unread parts the stretches."""
    uids = [take_in(desk, tmp_path, 60 + i, i) for i in range(10)]
    for number, uid in enumerate(uids):
        if number not in (3, 9):
            read(desk, uid, ReviewOutcome.UNCERTAIN if number == 5 else ReviewOutcome.NO_PNEUMONIA)
    decisions.withdraw(desk.database, uids[8], "Dr B", "the wrong study", desk.clock())
    found = consecutive(desk.database, desk.clock() - timedelta(days=1))
    assert [study.study_uid for study in found.studies] == uids[4:8]
    assert (found.unread, found.read_outside) == (3, 3)
    assert "3 without, 1 uncertain and 0 not assessable (left out). Not taken: 3 unread studies," in found.says
    assert "3 read outside of this stretch, which ends at an unread study." in found.says


def test_verdicts_given_before_the_score_was_seen_come_first(desk: Ledger, tmp_path: Path) -> None:
    seen = [take_in(desk, tmp_path, 40 + i, i) for i in range(30)]
    for uid in seen:
        read(desk, uid, ReviewOutcome.NO_PNEUMONIA)
    desk.database.is_silent_run = True
    blind = [take_in(desk, tmp_path, 80 + i, 100 + i) for i in range(22)]
    for number, uid in enumerate(blind):
        if number == 21:  # somebody looked at the score first
            audit.note(desk.database, AuditAction.SHOWN, "Dr A", desk.clock(), [uid])
        read(desk, uid, ReviewOutcome.PNEUMONIA if number < 2 else ReviewOutcome.NO_PNEUMONIA)
    found = consecutive(desk.database, desk.clock() - timedelta(days=1))
    assert found.is_blind
    assert [study.study_uid for study in found.studies] == blind[:21]
    assert "given before the score was seen: all of them" in found.says
    assert "0 unread studies, and 31 read outside of this stretch" in found.says
    assert "ends at a study that was unread, or shown before it was read" in found.says
    later = consecutive(desk.database, desk.clock() - timedelta(minutes=10))
    assert not later.is_blind, "too few of them: all that were read"
    assert later.known_blind == len(later.studies) - 1


def test_what_the_page_knows_of_a_reader_comes_before_what_a_silent_run_suggests(desk: Ledger, tmp_path: Path) -> None:
    desk.database.is_silent_run = True
    uids = [take_in(desk, tmp_path, 40 + i, i) for i in range(3)]
    for uid, saw in zip(uids, (False, True, None), strict=True):
        row = desk.study(uid)
        newest = None
        seen = None if saw is None else Seen(row.revision, row.current_screening_id, newest, saw, saw, saw, 1.0)
        decisions.review(
            desk.database, uid, ReviewOutcome.NO_PNEUMONIA, "Dr Test", None, desk.clock(), UncertainReview.STAYS, seen
        )
    found = consecutive(desk.database, desk.clock() - timedelta(days=1))
    assert [study.is_blind for study in found.studies] == [True, False, True]
