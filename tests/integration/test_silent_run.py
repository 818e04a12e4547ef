"""In a silent run no place on the worklist tells what the program found, and its end places every study at once."""

import json
import re
from pathlib import Path
from typing import Any

import attrs
import pytest
from click.testing import CliRunner

from schema.setting_values import Silent
from schema.vocabulary import Band, Priority, Reason, ReviewOutcome
from tests.ledger import STUDY, Ledger, image
from worker.cli.main import app
from worker.decoding.pool import DecoderPool
from worker.intake.sweep import sweep
from worker.ledger import audit, decisions
from worker.ledger.connect import unopened
from worker.ledger.screening import claims
from worker.ledger.screening.outbox import Backlog
from worker.ledger.worklist import overdue, silent_run
from worker.ledger.worklist.silent_run import SETTING
from worker.monitoring.health import check_readiness
from worker.settings import Settings
from worker.web.page_context import PageContext

LATERAL: dict[str, Any] = {"view": "LATERAL"}
HIP: dict[str, Any] = {"body_part": "HIP"}


def fill(desk: Ledger) -> None:
    """Studies of every kind, flagged ones and others in turn."""
    for name in (
        "negative",
        "flag_low",
        "lateral",
        "hip",
        "flag_high",
        "conflict",
        "failed",
        "stat",
        "other",
        "waiting",
    ):
        elements: dict[str, Any] = {"hip": HIP, "lateral": LATERAL}.get(name, {})
        desk.receive(name, content=name, **elements)
        desk.clock.forward(1)
    desk.receive("conflict", "other", "conflict other", patient_id="P-2")
    for name in ("stat", "other"):
        decisions.prioritise(desk.database, name, Priority.STAT, "Dr A", desk.clock())
    desk.screen("hip", headers=[image("hip", **HIP)])
    desk.screen("lateral", headers=[image("lateral", **LATERAL)])
    scores = {
        "flag_low": 0.6,
        "flag_high": 0.9,
        "negative": 0.1,
        "conflict": 0.8,
        "failed": 0.9,
        "stat": 0.1,
        "other": 0.9,
    }
    for name, probability in scores.items():
        desk.screen(name, probability)
    decisions.requeue(desk.database, "failed", desk.settings, desk.clock())
    claims.fail(desk.database, desk.claim("failed"), "oops", "traceback", desk.clock())


@pytest.fixture
def silent(desk: Ledger) -> Ledger:
    desk.database.is_silent_run = True
    return desk


def test_flagged_and_not_flagged_share_a_band_and_the_others_keep_theirs(silent: Ledger) -> None:
    fill(silent)
    assert [(e.study_uid, e.band) for e in silent.worklist()] == [
        ("stat", Band.STAT),
        ("other", Band.STAT),  # flagged, and yet after the older one
        ("lateral", Band.ATTENTION),
        ("conflict", Band.ATTENTION),  # flagged too
        ("failed", Band.ATTENTION),  # was flagged before
        ("waiting", Band.WAITING),
        ("negative", Band.NOT_FLAGGED),
        ("flag_low", Band.NOT_FLAGGED),
        ("flag_high", Band.NOT_FLAGGED),
        ("hip", Band.INELIGIBLE),
    ]
    assert {silent.entry(name).reason for name in ("negative", "flag_low", "flag_high")} == {Reason.SILENT_RUN}


def test_the_list_shows_no_verdict_and_says_why(silent: Ledger) -> None:
    fill(silent)
    for name in ("negative", "flag_low", "flag_high", "stat", "other"):
        entry = silent.entry(name)
        assert (entry.verdict, entry.probability, entry.verdict_reason, entry.heatmap) == (None, None, None, None)
        assert entry.is_silent
    assert silent.entry("lateral").verdict == "unscreenable"
    said = CliRunner().invoke(app, ["worklist"], env={"SCREENING_DATABASE": silent.database.url})
    assert said.exit_code == 0, said.output
    assert "silent run: verdicts are not shown" in said.output
    shown = [line for line in said.output.splitlines() if re.search("negative|flag_|stat.dcm|other.dcm", line)]
    assert len(shown) == 5
    assert not any(re.search(r"0\.[1-9]00| flagged|not flagged", line) for line in shown), said.output


def test_a_console_without_the_setting_places_nothing_otherwise(silent: Ledger) -> None:
    """Its own settings say nothing of the service's; what it moves, it moves as the list is."""
    fill(silent)
    silent.clock.forward(hours=silent.settings.overdue_after_h)
    listed = CliRunner().invoke(app, ["worklist", "--json"], env={"SCREENING_DATABASE": silent.database.url})
    assert {row["study_uid"]: row["verdict"] for row in json.loads(listed.output)} == {
        **dict.fromkeys(("negative", "flag_low", "flag_high", "stat", "other", "waiting", "conflict", "failed")),
        "lateral": "unscreenable", "hip": "ineligible",
    }  # fmt: skip
    silent.database.is_silent_run = False
    silent_run.follow_setting(silent.database, silent.clock())
    CliRunner().invoke(app, ["worklist"], env={"SCREENING_DATABASE": silent.database.url, "SCREENING_SILENT": "on"})
    assert silent.entry("flag_high").verdict == "flagged"


def test_overdue_studies_do_not_tell_either(silent: Ledger) -> None:
    for name, probability in (("negative", 0.1), ("flagged", 0.9)):
        silent.receive(name, content=name)
        silent.clock.forward(1)
        silent.screen(name, probability)
    silent.clock.forward(hours=silent.settings.overdue_after_h)
    overdue.advance(silent.database, silent.clock())
    assert [(e.study_uid, e.reason) for e in silent.worklist()] == [
        ("negative", Reason.OVERDUE),
        ("flagged", Reason.OVERDUE),
    ]


@pytest.mark.parametrize("begins", [True, False], ids=["begins", "ends"])
def test_a_switch_places_every_unread_study_in_one_audited_step(desk: Ledger, begins: bool) -> None:
    desk.database.is_silent_run = not begins
    fill(desk)
    decisions.review(desk.database, "hip", ReviewOutcome.NO_PNEUMONIA, "Dr A", None, desk.clock())
    before = {e.study_uid: (e.band, e.reason) for e in desk.worklist()}
    assert silent_run.follow_setting(desk.database, desk.clock()) == 0, "nothing has changed"
    desk.database.is_silent_run = begins
    assert silent_run.follow_setting(desk.database, desk.clock()) == 9
    placed = {e.study_uid: (e.band, e.reason) for e in desk.worklist()}
    shared, apart = (Band.NOT_FLAGGED, Reason.SILENT_RUN), (Band.FLAGGED, Reason.AT_OR_ABOVE_THRESHOLD)
    assert (before["flag_high"], placed["flag_high"]) == ((apart, shared) if begins else (shared, apart))
    assert placed["lateral"] == before["lateral"]
    assert silent_run.follow_setting(desk.database, desk.clock()) == 0, "once is enough"
    rows = [each for each in audit.trail(desk.database, desk.clock.forward(hours=-1)) if each.deed == "placed_anew"]
    assert [(row.who, row.subject, row.detail) for row in rows] == [
        (SETTING, f"silent run {'on' if begins else 'off'}", "9 unread studies")
    ]


def test_an_end_that_finds_stat_studies_only_still_places_them(silent: Ledger) -> None:
    for name, probability in (("negative", 0.1), ("flagged", 0.9)):
        silent.receive(name, content=name)
        silent.clock.forward(1)
        silent.screen(name, probability)
        decisions.prioritise(silent.database, name, Priority.STAT, "Dr A", silent.clock())
    silent.database.is_silent_run = False
    assert silent_run.follow_setting(silent.database, silent.clock()) == 2
    assert [(e.study_uid, e.verdict) for e in silent.worklist()] == [
        ("flagged", "flagged"),
        ("negative", "not_flagged"),
    ]


def test_the_sweep_of_the_watcher_follows_the_setting(silent: Ledger) -> None:
    silent.receive(STUDY)
    silent.screen(STUDY, 0.9)
    silent.database.is_silent_run = False
    sweep(silent.database, silent.settings, lambda _: None, Backlog, silent.clock())
    assert silent.entry().band == Band.FLAGGED


def test_the_setting_reaches_the_database(tmp_path: Path) -> None:
    assert not unopened(Settings(home=tmp_path)).is_silent_run
    assert unopened(Settings(home=tmp_path, silent=Silent("on"))).is_silent_run


def test_a_page_that_goes_on_running_follows_the_list(silent: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.web.page_context.LOOKS_EVERY_S", 0.0)
    fill(silent)
    page = unopened(attrs.evolve(silent.settings, database=silent.database.url))  # as a page that was started before
    context = PageContext(silent.settings, page, silent.store, DecoderPool.of(silent.settings))
    context.follow_silent_run()
    silently = bool(page.is_silent_run)
    silent.database.is_silent_run = False
    silent_run.follow_setting(silent.database, silent.clock())
    context.follow_silent_run()
    assert (silently, bool(page.is_silent_run)) == (True, False)
    context.close()


def test_the_checkup_says_that_a_silent_run_is_on(silent: Ledger) -> None:
    there = attrs.evolve(silent.settings, database=silent.database.url)
    (found,) = [each for each in check_readiness(there) if each.what == "database"]
    assert "silent run" not in found.message
    fill(silent)
    (found,) = [each for each in check_readiness(there) if each.what == "database"]
    assert found.is_well
    assert "silent run: the list shows no verdicts" in found.message
