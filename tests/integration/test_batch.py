"""A batch takes what fits into its window, finishes it, continues with the same command, and writes a report."""

import csv
import hashlib
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html import unescape
from pathlib import Path
from typing import Any

import attrs
import pytest

from schema.database import Database
from schema.vocabulary import FileState, Priority, ReviewOutcome
from tests.brightness_model import write_model
from tests.integration.test_metrics import idle, in_force, registry, samples
from tests.ledger import STUDY, Ledger, claim_one
from tests.phantoms import dicom_file, picture
from worker.batch import report
from worker.batch.run import Batch, BatchOutcome, Source, Taken, archive, stored
from worker.errors import DatabaseUnavailable, StorageUnavailable
from worker.intake.ingest import Intake
from worker.ledger import decisions
from worker.ledger.operations import batch_runs
from worker.ledger.screening import claims
from worker.ledger.screening.outbox import Backlog, Offer
from worker.ledger.worklist import overdue
from worker.monitoring.metrics import Metrics
from worker.schedule.window import ALL_DAY, Window
from worker.service.service import RunningService

pytestmark = pytest.mark.parametrize("kind", ["sqlite"])

EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)


class DirectScreening:
    """An installation without a broker: what is published is screened at once."""

    def __init__(self, desk: Ledger) -> None:
        self.desk = desk
        self.service = RunningService(desk.settings, Intake(desk.settings, desk.database, desk.store), None)
        self.published: list[Offer] = []
        self.stop = threading.Event()

    def screen(self, offers: Sequence[Offer]) -> None:
        for offer in offers:
            held = claim_one(self.desk.database, offer.study_uid, self.desk.settings, self.desk.clock())
            assert held is not None
            self.desk.record(held, 0.9)
        self.published += offers

    def run(self, source: Source, window: Window = ALL_DAY) -> BatchOutcome:
        return Batch(self.service, source, self.screen, Backlog, self.stop, window, clock=self.desk.clock).run()


@pytest.fixture
def direct(desk: Ledger) -> DirectScreening:
    desk.clock.now = datetime.now(UTC)  # what a source takes in, it books by the real clock
    return DirectScreening(desk)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An archive of three studies and a letter."""
    year = tmp_path / "archive" / "2019"
    year.mkdir(parents=True)
    for number in range(3):
        uid = f"{STUDY}.{number}"
        content = dicom_file(picture(), StudyInstanceUID=uid, SeriesInstanceUID=f"{uid}.1", SOPInstanceUID=f"{uid}.2")
        (year / f"{number}.dcm").write_bytes(content)
    (year / "letter.txt").write_text("Dear colleague", encoding="utf-8")
    return year.parent


def test_an_archive_is_screened_where_it_lies_and_only_once(direct: DirectScreening, folder: Path) -> None:
    before = sorted((path, path.stat().st_mtime_ns) for path in folder.rglob("*"))
    direct.desk.clock.forward(60)  # the studies have settled when the batch looks
    night = direct.run(archive(direct.service, folder))
    assert night.files == {FileState.ACCEPTED: 3, FileState.QUARANTINED: 1}
    assert (night.study_uids, night.left) == ([f"{STUDY}.{n}" for n in range(3)], 0)
    assert {offer.queue for offer in direct.published} == {Priority.NIGHTLY}
    assert sorted((path, path.stat().st_mtime_ns) for path in folder.rglob("*")) == before
    assert not direct.desk.store.folder.exists() or not list(direct.desk.store.folder.glob("objects/*/*"))
    assert archive(direct.service, folder).pieces == []
    (folder / "late.dcm").write_bytes(dicom_file(picture(), StudyInstanceUID="1.2.3"))
    assert [Path(file.path).name for file in archive(direct.service, folder).pieces] == ["late.dcm"]


def test_an_archive_study_is_never_overdue_until_somebody_sends_it(direct: DirectScreening) -> None:
    desk = direct.desk
    desk.receive(priority=Priority.NIGHTLY)
    desk.clock.forward(hours=1000)
    assert overdue.advance(desk.database, desk.clock()) == 1, "late, as every study without a result"
    desk.screen(STUDY, 0.1)
    desk.clock.forward(hours=1000)
    assert overdue.advance(desk.database, desk.clock()) == 0
    desk.receive(STUDY, f"{STUDY}.1.2", "two", priority=Priority.ROUTINE)
    assert desk.study().priority == "routine"
    desk.clock.forward(hours=25)
    assert overdue.advance(desk.database, desk.clock()) == 1
    assert desk.entry().reason == "overdue"


def test_the_end_of_the_window_ends_the_taking_and_the_next_night_goes_on(
    direct: DirectScreening, folder: Path
) -> None:
    desk = direct.desk
    local = desk.clock().astimezone()
    window = Window(local.time(), local.replace(hour=(local.hour + 1) % 24).time())
    source = archive(direct.service, folder)

    def take_slowly(piece: Any) -> Taken:
        desk.clock.forward(hours=0.5)
        return source.take(piece)

    night = direct.run(replace(source, take=take_slowly), window)
    assert (len(night.study_uids), night.left) == (2, 2)
    assert [desk.study(uid).state for uid in night.study_uids] == ["screened"] * 2
    assert len(archive(direct.service, folder).pieces) == 2


def test_a_batch_that_is_stopped_before_its_window_opens_takes_nothing(direct: DirectScreening, folder: Path) -> None:
    local = direct.desk.clock().astimezone()
    closed = Window(local.replace(hour=(local.hour + 2) % 24).time(), local.replace(hour=(local.hour + 3) % 24).time())
    threading.Timer(0.2, direct.stop.set).start()
    assert direct.run(archive(direct.service, folder), closed).left == 4


def test_a_batch_that_is_stopped_in_an_outage_leaves_the_rest(direct: DirectScreening, folder: Path) -> None:
    def take(_piece: object) -> Taken:
        direct.stop.set()  # it would try again until the database is back
        raise DatabaseUnavailable("gone")

    assert direct.run(replace(archive(direct.service, folder), take=take)).left == 4


def test_an_outage_ends_with_the_window(direct: DirectScreening, folder: Path) -> None:
    local = direct.desk.clock().astimezone()
    window = Window(local.time(), local.replace(hour=(local.hour + 1) % 24).time())

    def take(_piece: object) -> Taken:
        direct.desk.clock.forward(hours=2)
        raise DatabaseUnavailable("gone")

    assert direct.run(replace(archive(direct.service, folder), take=take), window).left == 4


def test_an_outage_while_the_last_studies_are_screened_is_outlasted(direct: DirectScreening, folder: Path) -> None:
    source = archive(direct.service, folder)
    outages = [DatabaseUnavailable("gone")]

    def screen(offers: Sequence[Offer]) -> None:
        if offers and outages:
            direct.desk.clock.forward(60)  # then what was offered is offered again
            raise outages.pop()
        direct.screen(offers)

    night = Batch(direct.service, source, screen, Backlog, direct.stop, clock=direct.desk.clock).run()
    assert not outages
    assert [direct.desk.study(uid).state for uid in night.study_uids] == ["screened"] * 3


def test_stored_studies_are_judged_again_by_a_newer_model(direct: DirectScreening, tmp_path: Path) -> None:
    desk = direct.desk
    for study_uid, probability in (("A", 0.9), ("B", 0.1), ("C", 0.1)):
        desk.receive(study_uid, content=study_uid)
        desk.screen(study_uid, probability)
    newer = write_model(tmp_path / "newer.onnx")
    direct.service = replace(direct.service, settings=attrs.evolve(desk.settings, model=newer))
    desk.model = replace(desk.model, digest=hashlib.sha256(newer.read_bytes()).hexdigest())
    assert stored(direct.service, EARLIEST, "flagged").pieces == ["A"]
    assert stored(direct.service, desk.clock.forward(1), None).pieces == []
    decisions.prioritise(desk.database, "C", Priority.STAT, "Dr A", desk.clock())
    decisions.review(desk.database, "B", ReviewOutcome.NO_PNEUMONIA, "Dr A", None, desk.clock())
    night = direct.run(stored(direct.service, EARLIEST, None))
    assert sorted(night.study_uids) == ["A", "B", "C"]
    assert {o.study_uid: o.queue for o in direct.published} == {
        "A": Priority.NIGHTLY, "B": Priority.NIGHTLY, "C": Priority.STAT,
    }  # fmt: skip
    assert stored(direct.service, EARLIEST, None).pieces == []
    assert (desk.study("A").revision, desk.study("A").priority, desk.count("screening")) == (2, "routine", 6)
    assert [entry.study_uid for entry in desk.worklist()] == ["C", "A"], "what was read stays read"


def batch_metrics(desk: Ledger) -> dict[str, float]:
    """What is told of the newest batch."""
    with registry(Metrics(in_force(desk), desk.clock, idle)) as ours:
        names = ("began_timestamp_seconds", "due_timestamp_seconds", "ended_timestamp_seconds", "failed")
        found = {name: samples(ours, f"screening_batch_{name}") for name in names}
    return {name: value for name, values in found.items() for value in values.values()}


@pytest.mark.parametrize(
    ("error", "fault"),
    [(None, None), (StorageUnavailable("full"), "storage_unavailable"), (KeyError("bug"), "unexpected_error")],
)
def test_each_batch_has_a_row_that_tells_how_it_ended(desk: Ledger, error: Exception | None, fault: str | None) -> None:
    assert batch_metrics(desk) == {}, "there never was one"
    began, due = desk.clock(), desk.clock() + timedelta(hours=8)
    with suppress(StorageUnavailable, KeyError), batch_runs.recorded(desk.database, due, desk.clock) as account:
        under_way = batch_metrics(desk)
        account.studies, account.remaining = 5, 7
        desk.clock.forward(hours=1)
        if error is not None:
            raise error
    told = ("began_timestamp_seconds", "due_timestamp_seconds", "ended_timestamp_seconds", "failed")
    assert [under_way[name] for name in told] == [began.timestamp(), due.timestamp(), 0, 0]
    ended = batch_metrics(desk)
    assert ended["ended_timestamp_seconds"] == desk.clock().timestamp()
    assert ended["failed"] == float(fault is not None)
    with desk.database.reading() as connection:
        run = batch_runs.newest(connection)
    assert run is not None
    assert (run.studies, run.remaining, run.fault) == (5, 7, fault)


def test_studies_without_a_result_are_a_failed_batch(desk: Ledger) -> None:
    with batch_runs.recorded(desk.database, desk.clock(), desk.clock) as account:
        account.studies, account.without_result = 5, 1
    assert batch_metrics(desk)["failed"] == 1


def test_a_night_whose_drift_cannot_be_judged_has_its_report(desk: Ledger, tmp_path: Path) -> None:
    away = Database(f"sqlite:///{tmp_path / 'no such folder' / 'ledger.sqlite'}")
    drifts, unjudged = report.judge_drift(away, desk.clock())
    assert not drifts
    assert "[database_unavailable]" in unjudged
    found = report.BatchReport(desk.clock(), desk.clock(), {}, [], 0, drifts, unjudged)
    page, *_ = report.write(found, tmp_path)
    assert f"None could be judged: {unjudged}" in unescape(page.read_text(encoding="utf-8"))


def test_the_report_counts_the_night_and_names_what_was_flagged(desk: Ledger, tmp_path: Path) -> None:
    for study_uid, probability in (("A", 0.6), ("B", 0.1), ("C", 0.9)):
        desk.receive(study_uid, content=study_uid, accession_number=f"=N({study_uid})")
        desk.screen(study_uid, probability)
    desk.receive("D", content="D", unreadable="truncated")
    desk.screen("D")
    desk.receive("E", content="E")
    claims.fail(desk.database, desk.claim("E"), "zero_division", "traceback", desk.clock())
    rows = report.read_rows(desk.database, ["A", "B", "C", "D", "E"])
    began = desk.clock()
    found = report.BatchReport(began, desk.clock.forward(hours=2), {FileState.ACCEPTED: 4}, rows, left=7)
    assert found.sentence == "4 of 5 studies screened, 2 flagged, 1 failed; 2 an hour; 7 left for the next night"
    assert not found.is_complete
    page, table, _ = report.write(found, tmp_path / "reports")
    with table.open(newline="", encoding="utf-8") as file:
        written = list(csv.DictReader(file))
    assert [row["study_uid"] for row in written] == ["C", "A", "B", "D", "E"]
    assert written[0]["accession_number"] == "'=N(C)", "no spreadsheet takes it for a formula"
    assert (written[3]["reason"], written[4]["failure_code"]) == ("unreadable_image", "zero_division")
    html = page.read_text(encoding="utf-8")
    for words in (found.sentence, "unreadable image", "zero division", "0.900", table.name):
        assert words in html
