"""The images of each scanner are compared with the card's reference; a change of status is logged once."""

import json
import logging
import math
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schema.database import Database
from schema.vocabulary import Stability
from tests.acceptance.installation import Installation
from tests.integration.test_metrics import idle, in_force, registry, samples
from tests.ledger import Clock, Ledger
from tests.screened_images import over_nights, registered, screened, usual
from worker.batch import report
from worker.inference.reference import MEASURES, Values
from worker.monitoring.drift import evaluate
from worker.monitoring.drift.evaluate import DriftSchedule
from worker.monitoring.drift.statistics import Chart
from worker.monitoring.drift.table import SHORT, cells
from worker.monitoring.metrics import Metrics

MODEL = "a" * 64
ROOM_1: dict[str, Any] = {"manufacturer": "ACME", "station_name": "ROOM 1"}
ROOM_2: dict[str, Any] = {"manufacturer": "ACME", "station_name": None, "device_serial_number": "SN-2"}


def mixed(rng: np.random.Generator, nights: int, sick: int, healthy: int) -> dict[str, Values]:
    """`usual` measures, so many sick and healthy ones each night."""
    parts = [usual(rng, sick, healthy) for _ in range(nights)]
    return {name: np.concatenate([part[name] for part in parts]) for name in MEASURES}


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(11)


@pytest.fixture
def two_rooms(database: Database, clock: Clock, rng: np.random.Generator) -> Database:
    """Ten nights of 40 images: room 1 as ever, with fewer sick ones than the reference; room 2 too bright."""
    registered(database)
    screened(database, MODEL, mixed(rng, 10, 8, 32), over_nights(clock(), 10, 40), **ROOM_1)
    bright = mixed(rng, 10, 8, 32)
    bright["display_mean"] += 0.2
    screened(database, MODEL, bright, over_nights(clock(), 10, 40), view="ANTERO-POSTERIOR", **ROOM_2)
    return database


def test_each_scanner_is_compared_by_itself_and_another_case_mix_is_no_drift(two_rooms: Database, clock: Clock) -> None:
    worse, as_ever = evaluate.read(two_rooms, clock())
    assert (as_ever.source.manufacturer, as_ever.source.station, as_ever.source.view) == ("ACME", "ROOM 1", "PA")
    assert (as_ever.status, as_ever.images, as_ever.compared) == (Stability.STEADY, 400, 400)
    assert as_ever.mixture["pneumonia"] == pytest.approx(0.2, abs=0.08)
    assert as_ever.reference_flag_rate == pytest.approx(0.75, abs=0.08)
    assert (worse.source.station, worse.source.view, worse.status) == ("SN-2", "AP", Stability.LEFT_LIMITS)
    left = {name for name, shift in worse.shifts.items() if shift.status is Stability.LEFT_LIMITS}
    assert left == {"display_mean"}
    assert worse.means["display_mean"] == pytest.approx((0.7, 0.5), abs=0.02)


def test_what_left_its_limits_is_told_once_until_it_has_returned(
    two_rooms: Database, clock: Clock, rng: np.random.Generator, caplog: pytest.LogCaptureFixture
) -> None:
    def told() -> list[tuple[str, str, str]]:
        assert "ACME" not in str([vars(record) for record in caplog.records]), "a header's words in a log"
        found = [(r.message, vars(r)["view"], vars(r)["measure"]) for r in caplog.records]
        caplog.clear()
        return found

    evaluate.judge(two_rooms, clock())
    assert told() == [("drift_left_limits", "AP", "display_mean")]
    evaluate.judge(two_rooms, clock.forward(hours=24))
    assert told() == []
    moments = over_nights(clock.forward(hours=24 * 13), 13, 40)
    screened(two_rooms, MODEL, mixed(rng, 13, 8, 32), moments, view="AP", **ROOM_2)
    evaluate.judge(two_rooms, clock())
    assert told() == [("drift_returned", "AP", "display_mean")]
    evaluate.judge(two_rooms, clock())
    assert told() == []
    with two_rooms.reading() as connection:
        events = connection.exec_driver_sql(
            "SELECT station, event FROM drift WHERE event IS NOT NULL ORDER BY id"
        ).all()
    assert events == [("SN-2", "left_limits"), ("SN-2", "returned")]


@pytest.mark.parametrize("kind", ["sqlite"])
def test_a_night_on_which_many_more_are_flagged_is_told(
    database: Database, clock: Clock, rng: np.random.Generator
) -> None:
    registered(database)
    screened(database, MODEL, mixed(rng, 9, 8, 32), over_nights(clock(), 9, 40), **ROOM_1)
    screened(database, MODEL, usual(rng, 35, 5), over_nights(clock.forward(hours=24), 1, 40), **ROOM_1)
    (found,) = evaluate.read(database, clock())
    assert found.night.status is Stability.LEFT_LIMITS
    assert found.night.rate > found.night.high > found.night.centre
    assert found.shifts["probability"].status is Stability.STEADY, "the same model on more sick people"


@pytest.mark.parametrize("kind", ["sqlite"])
def test_without_reference_or_images_nothing_is_claimed(
    database: Database, clock: Clock, rng: np.random.Generator
) -> None:
    registered(database, "b" * 64, with_reference=False)
    registered(database)
    screened(database, "b" * 64, usual(rng, 30, 90), over_nights(clock(), 1, 120), **ROOM_1)
    old = {name: values for name, values in usual(rng, 10, 20).items() if name in ("probability", "familiarity")}
    screened(database, MODEL, old, over_nights(clock(), 1, 30), view=None)
    screened(database, MODEL, usual(rng, 10, 20), over_nights(clock(), 1, 30), shadow_of="b" * 64)
    few, none = evaluate.read(database, clock())
    assert (none.status, none.shifts, none.reference_flag_rate) == (Stability.NO_REFERENCE, {}, None)
    assert (few.status, few.images, few.source.view, few.source.station) == (Stability.TOO_FEW, 30, "none", "none")
    assert list(few.judgements) == list(none.judgements) == []
    assert json.loads(json.dumps(few.to_json()))["psi"]["dark_border"]["mean"] is None
    assert evaluate.judge(database, clock())
    assert evaluate.read(database, clock(), since=clock.forward(hours=24)) == []


@pytest.mark.parametrize("kind", ["sqlite"])
def test_once_a_night_is_enough_whoever_comes_first(
    two_rooms: Database, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    def evaluations() -> int:
        with two_rooms.reading() as connection:
            return int(connection.exec_driver_sql("SELECT COUNT(DISTINCT evaluation) FROM drift").scalar_one())

    drift_schedule = DriftSchedule(two_rooms, clock)
    drift_schedule.run_if_due()
    drift_schedule.run_if_due()
    DriftSchedule(two_rooms, clock).run_if_due()
    clock.forward(hours=19)
    DriftSchedule(two_rooms, clock).run_if_due()
    assert evaluations() == 1
    clock.forward(hours=2)
    DriftSchedule(two_rooms, clock).run_if_due()
    assert evaluations() == 2
    caplog.clear()
    DriftSchedule(Database("postgresql+psycopg://nobody@127.0.0.1:1/none"), clock).run_if_due()
    assert [record.message for record in caplog.records] == ["drift_not_judged"]
    assert caplog.records[0].levelno == logging.ERROR


def test_metrics_give_the_newest_evaluation(two_rooms: Database, desk: Ledger) -> None:
    evaluate.judge(two_rooms, desk.clock())
    evaluate.judge(two_rooms, desk.clock.forward(hours=24))
    with registry(Metrics(in_force(desk), desk.clock, idle)) as ours:
        status = samples(ours, "screening_drift_status")
        assert status["a" * 12, "ACME", "SN-2", "AP", "display_mean"] == 2
        assert status["a" * 12, "ACME", "ROOM 1", "PA", "display_mean"] == 0
        assert samples(ours, "screening_drift")["a" * 12, "ACME", "SN-2", "AP", "display_mean"] > 0.25
        assert samples(ours, "screening_drift_judged_timestamp_seconds") == {(): desk.clock().timestamp()}
    with registry(Metrics(in_force(desk, metrics_scanners=0), desk.clock, idle)) as ours:
        assert samples(ours, "screening_drift_status")["a" * 12, "other", "other", "AP", "display_mean"] == 2


@pytest.mark.parametrize("kind", ["sqlite"])
def test_the_morning_report_shows_what_drifts(two_rooms: Database, clock: Clock, tmp_path: Path) -> None:
    drifts = evaluate.judge(two_rooms, clock())
    began = clock() - timedelta(hours=8)
    page, _, table = report.write(report.BatchReport(began, clock(), {}, [], 0, drifts), tmp_path)
    html = page.read_text(encoding="utf-8")
    assert html.count('<td class="left_limits">') == 2
    for words in ("Drift, by scanner and view", "ACME, SN-2", "left limits", "steady"):
        assert words in html
    rows = table.read_text(encoding="utf-8").splitlines()
    assert rows[0].startswith("model_digest,manufacturer,station,view,measure,images,value")
    assert len(rows) == 1 + 2 * (len(MEASURES) + 1)
    nothing, _, _ = report.write(report.BatchReport(clock(), clock(), {}, [], 0), tmp_path)
    assert "None could be judged" in nothing.read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sqlite"])
def test_the_verb_shows_it(two_rooms: Database, clock: Clock, tmp_path: Path) -> None:
    site = Installation(tmp_path / "home", {"SCREENING_DATABASE": two_rooms.url})
    found = site.json("drift", "--since", f"{clock() - timedelta(days=20):%Y-%m-%d}")
    assert [(one["station"], one["status"]) for one in found] == [("SN-2", "left_limits"), ("ROOM 1", "steady")]
    said = site.run("drift", "--since", "2026-01-01")
    assert "ACME, SN-2" in said


@pytest.mark.parametrize(
    ("manufacturer", "station", "said"),
    [("ACME", "ROOM 1", "ACME, ROOM 1"), ("ACME", "none", "ACME"), ("none", "none", "not named")],
)
def test_a_scanner_is_named_as_far_as_its_header_does(manufacturer: str, station: str, said: str) -> None:
    chart = Chart(math.nan, math.nan, math.nan, math.nan, Stability.TOO_FEW)
    source = evaluate.Source("a" * 64, manufacturer, station, "none")
    drift = evaluate.Drift(source, "house", 1, 1, 0.0, None, {}, {}, {}, chart)
    assert cells(drift)[0].text == said


def test_every_measure_has_a_heading() -> None:
    assert tuple(SHORT) == MEASURES
