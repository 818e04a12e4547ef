"""What people read: the fields of the worklist, the quarantine, the views that count, and the two sums."""

import json
import shutil
from typing import Any

import pytest
from sqlalchemy import text

from schema.vocabulary import FileState, ReviewOutcome
from tests.ledger import STUDY, Ledger, digest
from worker.ledger import decisions
from worker.ledger.intake import files
from worker.ledger.intake.arrivals import Incoming
from worker.ledger.screening import claims
from worker.monitoring.reconciliation import reconcile
from worker.store import OBJECTS, OVERLAYS
from worker.worklist.quarantined_files import quarantine
from worker.worklist.underway import states

FIELDS = {
    "place", "band", "study_uid", "accession_number", "state", "verdict", "probability", "threshold", "reason",
    "priority", "sources", "heatmap", "received_at", "screened_at",
}  # fmt: skip


def rows(desk: Ledger, view: str) -> list[Any]:
    with desk.database.reading() as connection:
        return list(connection.execute(text(f"SELECT * FROM {view}")))


def test_an_entry_holds_what_programs_were_promised(desk: Ledger) -> None:
    desk.receive(accession_number="A-1", path="/inbox/x.dcm")
    waiting = desk.entry().to_json()
    assert set(waiting) >= FIELDS
    assert (waiting["verdict"], waiting["probability"], waiting["heatmap"], waiting["screened_at"]) == (None,) * 4
    desk.clock.forward(90)
    desk.screen(STUDY, 0.9)
    found = json.loads(json.dumps(desk.entry().to_json()))
    expected = {
        "place": 1, "band": 3, "study_uid": STUDY, "accession_number": "A-1", "state": "screened",
        "verdict": "flagged", "probability": 0.9, "threshold": 0.5, "reason": "at_or_above_threshold",
        "priority": "routine", "sources": ["/inbox/x.dcm"],
        "heatmap": str(desk.store.path(OVERLAYS, digest("overlay 0"))),
        "received_at": "2026-03-02T08:00:00+00:00", "screened_at": "2026-03-02T08:01:30+00:00",
    }  # fmt: skip
    assert {name: found[name] for name in FIELDS} == expected


def test_the_heat_map_shown_is_that_of_the_deciding_image(desk: Ledger) -> None:
    for number in range(3):
        desk.receive(STUDY, f"{STUDY}.1.{number}", f"image {number}")
    desk.screen(STUDY, 0.1, 0.8, 0.3)
    assert desk.entry().heatmap == str(desk.store.path(OVERLAYS, digest("overlay 1")))
    assert desk.entry().probability == 0.8


def test_many_studies_keep_their_own_sources(desk: Ledger) -> None:
    total = 502  # more than one IN list holds
    for number in range(total):
        desk.receive(f"{STUDY}.{number}", content=str(number))
    found = desk.worklist()
    assert len(found) == total
    assert all(e.sources == [f"/inbox/{e.study_uid.rsplit('.', 1)[1]}.dcm"] for e in found)
    assert states(desk.database, [e.study_uid for e in found]) == {"received": total}


def test_the_quarantine_lists_the_newest_first_with_code_and_study(desk: Ledger) -> None:
    letter = Incoming("/inbox/letter.txt", 5, 1)
    files.quarantine(desk.database, letter, "not_an_image", "a letter", digest("l"), desk.clock(), in_store=True)
    desk.clock.forward(5)
    desk.receive(content="half", unreadable="truncated")
    found = [file.to_json() for file in quarantine(desk.database)]
    assert [(f["path"], f["code"], f["message"], f["study_uid"]) for f in found] == [
        ("/inbox/half.dcm", "truncated", "it ends early", STUDY),
        ("/inbox/letter.txt", "not_an_image", "a letter", None),
    ]
    assert found[1]["seen_at"] == "2026-03-02T08:00:00+00:00"


def test_agreement_counts_the_newest_review_of_each_study(desk: Ledger) -> None:
    table = [
        (0.9, ["no_pneumonia", "pneumonia"]), (0.8, ["no_pneumonia"]), (0.1, ["no_pneumonia"]), (0.2, ["pneumonia"]),
        (0.7, ["pneumonia"]), (0.6, ["uncertain"]),
    ]  # fmt: skip
    for number, (probability, outcomes) in enumerate(table):
        study_uid = f"{STUDY}.{number}"
        desk.receive(study_uid, content=study_uid)
        desk.screen(study_uid, probability)
        for outcome in outcomes:
            decisions.review(desk.database, study_uid, ReviewOutcome(outcome), "Dr A", None, desk.clock())
    desk.receive("unscreened", content="unscreened")
    decisions.review(desk.database, "unscreened", ReviewOutcome.PNEUMONIA, "Dr A", None, desk.clock())
    (row,) = rows(desk, "agreement")
    assert (row.model_digest, row.reviewed) == ("a" * 64, 6)
    assert (row.true_positive, row.false_positive, row.true_negative, row.false_negative) == (2, 1, 1, 1)
    assert float(row.agreement) == pytest.approx(3 / 5)


def test_throughput_and_turnaround_count_by_day(desk: Ledger) -> None:
    waits = {"a": 10, "b": 300, "c": 301}
    for name, wait_s in waits.items():
        desk.receive(name, content=name, unreadable="truncated" if name == "c" else None)
        desk.clock.forward(wait_s)
        held = desk.claim(name)
        desk.clock.forward(2)
        desk.record(held, 0.9 if name == "a" else 0.1)
    desk.clock.forward(hours=24)
    desk.receive("d", content="d")
    desk.screen("d")
    first, second = sorted(rows(desk, "throughput"))
    assert (first.day, first.screened, first.flagged, first.not_flagged, first.unscreenable, first.ineligible) == (
        "2026-03-02", 3, 1, 1, 1, 0,
    )  # fmt: skip
    assert float(first.mean_worked_s) == 2.0
    assert (second.day, second.screened) == ("2026-03-03", 1)
    first, second = sorted(rows(desk, "turnaround"))
    assert (first.day, first.screened, first.within_five_minutes, first.longest_waited_s) == ("2026-03-02", 3, 1, 303.0)
    assert float(first.mean_waited_s) == pytest.approx((12 + 302 + 303) / 3)


def lived(desk: Ledger) -> None:
    """A ledger to which a bit of everything has happened."""
    kept = desk.store.put(OBJECTS, b"kept")
    desk.receive("a", content="a")
    desk.receive("a", content="a")
    desk.receive("a", content="other")
    desk.receive("b", content="half", unreadable="truncated")
    desk.receive("b", content="whole")
    desk.receive("c", content="c")
    desk.screen("a", 0.9)
    desk.claim("b")
    claims.fail(desk.database, desk.claim("c"), "oops", "traceback", desk.clock())
    files.wait(desk.database, [Incoming("/inbox/w", 1, 1), Incoming("/inbox/v", 1, 1)], desk.clock())
    files.record_vanished(desk.database, lambda path: path != "/inbox/v", "/inbox/")
    file = Incoming("/inbox/letter", 1, 1)
    files.quarantine(desk.database, file, "not_an_image", "a letter", kept, desk.clock(), in_store=True)


def test_both_sums_hold_after_everything(desk: Ledger) -> None:
    lived(desk)
    account = reconcile(desk.database, desk.store)
    assert account.holds, account.faults
    assert account.files == {
        "accepted": 3, "duplicate": 1, "conflict": 1, "quarantined": 2, "vanished": 1, "waiting": 1,
    }  # fmt: skip
    assert set(account.files) == set(FileState)
    assert account.files_seen == 9
    assert (account.studies, account.studies_known) == ({"screened": 1, "screening": 1, "failed": 1}, 3)
    assert json.loads(json.dumps(account.to_json()))["holds"] is True


FAULTS = {
    "UPDATE arrival SET study_id = NULL WHERE state = 'duplicate'": "files booked on a study that is not there",
    "UPDATE instance SET series_id = (SELECT MIN(id) FROM series)": "studies without an image",
    "UPDATE arrival SET instance_id = NULL, state = 'waiting'": "images that no file brought",
    "UPDATE study SET revision = revision + 1": "screened studies without a result for their newest images",
}


@pytest.mark.parametrize(("statement", "fault"), FAULTS.items())
def test_a_planted_fault_is_found(desk: Ledger, statement: str, fault: str) -> None:
    lived(desk)
    with desk.database.writing() as session:
        session.execute(text(statement))
    account = reconcile(desk.database, desk.store)
    assert account.faults[fault] > 0
    assert not account.holds


def test_a_state_outside_the_vocabulary_is_found(desk: Ledger) -> None:
    lived(desk)
    with desk.database.writing() as session:
        session.execute(text("UPDATE arrival SET state = 'lost' WHERE state = 'waiting'"))
    assert not reconcile(desk.database, desk.store).holds


def test_bytes_missing_from_the_store_are_found(desk: Ledger) -> None:
    lived(desk)
    shutil.rmtree(desk.store.folder)
    account = reconcile(desk.database, desk.store)
    assert account.faults["files booked whose bytes are not in the store"] == 1
    assert not account.holds
