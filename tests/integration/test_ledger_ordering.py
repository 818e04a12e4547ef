"""Every study is in the right band for the right reason, and moves up when it is overdue."""

import itertools
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from schema.models import Study
from schema.setting_values import UncertainReview
from schema.vocabulary import TRANSITIONS, Band, Priority, Reason, ReviewOutcome, StudyState
from tests.ledger import STUDY, Ledger, image
from worker.cli.worklist_table import explained
from worker.errors import AlreadyRead, NothingToWithdraw, UnknownStudy
from worker.export.labels import export
from worker.imaging.limits import DEFAULT
from worker.ledger import audit, decisions
from worker.ledger.screening import claims
from worker.ledger.worklist import overdue
from worker.ledger.worklist.ordering import move, sort_key
from worker.worklist.details import show
from worker.worklist.unread_list import count, entries, is_stale

LATERAL: dict[str, Any] = {"view": "LATERAL"}
EVER = datetime(2000, 1, 1, tzinfo=UTC)
HIP: dict[str, Any] = {"body_part": "HIP"}


@pytest.mark.parametrize(("here", "there"), list(itertools.product(StudyState, StudyState)))
def test_only_the_steps_of_the_table_are_taken(here: StudyState, there: StudyState) -> None:
    study = Study(state=here)
    if there in TRANSITIONS[here]:
        move(study, there)
        assert study.state is there
    else:
        with pytest.raises(ValueError, match=f"from {here} to {there}"):
            move(study, there)


def fill_every_band(desk: Ledger) -> list[tuple[str, Band, Reason]]:
    """A study of every kind, in no order; returns (name, band, reason) in the order in which they must be read."""
    for name in ("negative_old", "hip", "lateral", "flag_low", "conflict"):
        elements: dict[str, Any] = {"hip": HIP, "lateral": LATERAL}.get(name, {})
        desk.receive(name, content=name, **elements)
        desk.clock.forward(1)
    desk.receive("conflict", "other", "conflict other", patient_id="P-2")
    for name in ("failed", "flag_high", "broken", "negative_new", "waiting", "stat", "flag_low_young", "dead"):
        desk.receive(name, content=name, unreadable="truncated" if name == "broken" else None)
        desk.clock.forward(1)
    decisions.prioritise(desk.database, "stat", Priority.STAT, "Dr A", desk.clock())
    desk.screen("hip", headers=[image("hip", **HIP)])
    desk.screen("lateral", headers=[image("lateral", **LATERAL)])
    probabilities = {"flag_low": 0.6, "flag_low_young": 0.6, "flag_high": 0.9, "negative_old": 0.4, "negative_new": 0.1}
    for name, probability in (probabilities | {"conflict": 0.2, "broken": 0.0}).items():
        desk.screen(name, probability)
    claims.fail(desk.database, desk.claim("failed"), "oops", "traceback", desk.clock())
    for _ in range(desk.settings.max_attempts):
        desk.claim("dead")
        desk.clock.forward(31)
        claims.take_back_lapsed(desk.database, desk.settings, desk.clock())
    return [
        ("stat", Band.STAT, Reason.STAT),
        ("flag_high", Band.FLAGGED, Reason.AT_OR_ABOVE_THRESHOLD),
        ("flag_low", Band.FLAGGED, Reason.AT_OR_ABOVE_THRESHOLD),
        ("flag_low_young", Band.FLAGGED, Reason.AT_OR_ABOVE_THRESHOLD),
        ("lateral", Band.ATTENTION, Reason.NOT_FRONTAL),
        ("conflict", Band.ATTENTION, Reason.TWO_PATIENTS),
        ("failed", Band.ATTENTION, Reason.UNEXPECTED_ERROR),
        ("broken", Band.ATTENTION, Reason.UNREADABLE_IMAGE),
        ("dead", Band.ATTENTION, Reason.ATTEMPTS_EXHAUSTED),
        ("waiting", Band.WAITING, Reason.AWAITING_RESULT),
        ("negative_old", Band.NOT_FLAGGED, Reason.BELOW_THRESHOLD),
        ("negative_new", Band.NOT_FLAGGED, Reason.BELOW_THRESHOLD),
        ("hip", Band.INELIGIBLE, Reason.OTHER_BODY_PART),
    ]


def test_the_bands_stand_in_order_with_their_reasons(desk: Ledger) -> None:
    expected = fill_every_band(desk)
    assert [(e.study_uid, e.band, e.reason) for e in desk.worklist()] == expected
    assert [e.place for e in desk.worklist()] == list(range(1, len(expected) + 1))
    top = entries(desk.database, desk.store, limit=4)
    assert top == desk.worklist()[:4]
    assert count(desk.database) == len(expected)


def test_the_view_itself_gives_the_order(desk: Ledger) -> None:
    expected = [name for name, *_ in fill_every_band(desk)]
    with desk.database.reading() as connection:
        assert list(connection.execute(text("SELECT study_uid FROM worklist")).scalars()) == expected
        order = text("SELECT study_uid FROM worklist ORDER BY band, sort_key, study_id")
        assert list(connection.execute(order).scalars()) == expected


def test_studies_of_one_moment_keep_the_order_in_which_they_were_booked(desk: Ledger) -> None:
    names = [f"{STUDY}.{n}" for n in range(40)]
    for name in names:
        desk.receive(name, content=name)
    for name in reversed(names):
        decisions.prioritise(desk.database, name, Priority.ROUTINE, "Dr A", desk.clock())
    assert [e.study_uid for e in desk.worklist()] == names


def test_unread_beyond_its_time_every_study_is_overdue_except_stat(desk: Ledger) -> None:
    order = [name for name, *_ in fill_every_band(desk)]
    desk.clock.forward(hours=desk.settings.overdue_after_h)
    assert is_stale(desk.database, desk.clock())
    assert overdue.advance(desk.database, desk.clock()) == len(order) - 1
    assert not is_stale(desk.database, desk.clock())
    after = desk.worklist()
    assert [e.band for e in after] == [Band.STAT] + [Band.OVERDUE] * (len(order) - 1)
    assert {e.reason for e in after[1:]} == {Reason.OVERDUE}
    order.remove("waiting")
    order.insert(order.index("dead"), "waiting")  # its result is late by now, so it is among what needs attention
    assert [e.study_uid for e in after] == order, "what failed still stands above the negatives"
    assert overdue.advance(desk.database, desk.clock()) == 0


def test_without_a_result_in_time_a_study_needs_attention(desk: Ledger) -> None:
    desk.receive()
    desk.clock.forward(desk.settings.result_due_s - 1)
    assert overdue.advance(desk.database, desk.clock()) == 0
    desk.clock.forward(1)
    assert is_stale(desk.database, desk.clock())
    assert overdue.advance(desk.database, desk.clock()) == 1
    assert (desk.entry().band, desk.entry().reason) == (Band.ATTENTION, Reason.RESULT_LATE)
    assert not is_stale(desk.database, desk.clock())
    desk.screen(STUDY, 0.1)
    assert (desk.entry().band, desk.entry().reason) == (Band.NOT_FLAGGED, Reason.BELOW_THRESHOLD)


@pytest.mark.parametrize("body_part", ["CHEST", "HIP"])
def test_new_images_without_a_result_in_time_need_attention_too(desk: Ledger, body_part: str) -> None:
    """A study that was clear before must not hide at the bottom while its new image goes unlooked at."""
    headers = [image(body_part=body_part)]
    desk.receive()
    desk.screen(STUDY, 0.1, headers=headers)
    desk.clock.forward(3600)
    assert overdue.advance(desk.database, desk.clock()) == 0
    desk.receive(STUDY, f"{STUDY}.1.2", "two")
    assert desk.entry().reason == Reason.NEW_IMAGES
    desk.clock.forward(desk.settings.result_due_s)
    assert is_stale(desk.database, desk.clock())
    assert overdue.advance(desk.database, desk.clock()) == 1
    assert (desk.entry().band, desk.entry().reason) == (Band.ATTENTION, Reason.RESULT_LATE)
    assert not is_stale(desk.database, desk.clock())


def test_sort_keys_order_by_probability_then_age(desk: Ledger) -> None:
    young, old = desk.clock(), desk.clock.forward(-60)
    keys = [
        sort_key(Band.FLAGGED, p, at) for p, at in ((1.0, young), (0.9, old), (0.9, young), (0.5, old), (None, young))
    ] + [sort_key(Band.NOT_FLAGGED, None, old)]
    assert keys == sorted(keys)
    assert len(set(keys)) == len(keys)
    assert {len(key) for key in keys} == {21}
    assert all(key.isdigit() for key in keys)


def test_a_read_study_leaves_the_list_and_the_review_is_kept(desk: Ledger) -> None:
    desk.receive(accession_number="A-1")
    desk.screen(STUDY, 0.9)
    for outcome, reader in ((ReviewOutcome.UNCERTAIN, "Dr A"), (ReviewOutcome.PNEUMONIA, "Dr B")):
        decisions.review(desk.database, "A-1", outcome, reader, "left base", desk.clock())
    assert desk.worklist() == []
    kept = show(desk.database, desk.store, "A-1")
    assert [(r["outcome"], r["reader"]) for r in kept["reviews"]] == [("uncertain", "Dr A"), ("pneumonia", "Dr B")]


def test_a_review_that_contradicts_an_earlier_one_says_so(desk: Ledger) -> None:
    desk.receive()
    desk.screen(STUDY, 0.9)

    def read(outcome: ReviewOutcome, reader: str) -> str | None:
        done = decisions.review(desk.database, STUDY, outcome, reader, None, desk.clock.forward(60))
        return None if done.contradicted is None else str(done.contradicted)

    assert read(ReviewOutcome.PNEUMONIA, "Dr A") is None
    assert read(ReviewOutcome.PNEUMONIA, "Dr B") is None
    assert read(ReviewOutcome.NO_PNEUMONIA, "Dr C") == "pneumonia, by Dr B, 2026-03-02 08:02 UTC"
    decisions.withdraw(desk.database, STUDY, "Dr C", "the wrong patient", desk.clock())
    assert read(ReviewOutcome.PNEUMONIA, "Dr C") is None, "a withdrawn verdict contradicts nothing"


def test_a_withdrawn_review_returns_the_study_to_its_place_and_counts_no_more(desk: Ledger, tmp_path: Path) -> None:
    for name, probability in (("a", 0.9), ("b", 0.8)):
        desk.receive(name, content=name)
        desk.screen(name, probability)
    decisions.review(desk.database, "a", ReviewOutcome.PNEUMONIA, "Dr A", None, desk.clock.forward(60))
    decisions.review(desk.database, "a", ReviewOutcome.NO_PNEUMONIA, "Dr B", None, desk.clock.forward(60))
    assert [e.study_uid for e in desk.worklist()] == ["b"]
    verdict = decisions.withdraw(desk.database, "a", "Dr B", "the wrong patient", desk.clock.forward(60))
    assert str(verdict) == "no pneumonia, by Dr B, 2026-03-02 08:02 UTC"
    assert [e.study_uid for e in desk.worklist()] == ["a", "b"]
    entry = desk.entry("a")
    assert explained(entry) == "at or above threshold, verdict of Dr B withdrawn (the wrong patient)"
    kept = show(desk.database, desk.store, "a")["reviews"]
    assert [(r["outcome"], r["withdrawn_by"], r["withdrawn_because"]) for r in kept] == [
        ("pneumonia", None, None), ("no_pneumonia", "Dr B", "the wrong patient"),
    ]  # fmt: skip
    with desk.database.reading() as connection:
        assert connection.execute(text("SELECT * FROM agreement")).all() == []
    labels = export(desk.database, desk.store, tmp_path / "labels", EVER, DEFAULT)
    assert (labels.images, labels.left_out) == (0, {"review withdrawn": 1})
    told = [(e.who, e.deed, e.detail) for e in audit.trail(desk.database, EVER, "a")]
    assert ("Dr B", "review_withdrawn", "the wrong patient") in told
    with pytest.raises(NothingToWithdraw):
        decisions.withdraw(desk.database, "a", "Dr B", "again", desk.clock())
    with pytest.raises(NothingToWithdraw):
        decisions.withdraw(desk.database, "b", "Dr B", "never read", desk.clock())
    decisions.review(desk.database, "a", ReviewOutcome.PNEUMONIA, "Dr B", None, desk.clock())
    assert [e.study_uid for e in desk.worklist()] == ["b"]


def test_an_uncertain_study_stays_on_the_list_and_is_marked_unless_the_setting_says_otherwise(desk: Ledger) -> None:
    desk.receive()
    desk.screen(STUDY, 0.9)
    uncertain = ReviewOutcome.UNCERTAIN
    done = decisions.review(desk.database, STUDY, uncertain, "Dr A", None, desk.clock())
    assert not done.leaves_the_list
    assert explained(desk.entry()) == "at or above threshold, read as uncertain by Dr A"
    decisions.review(desk.database, STUDY, ReviewOutcome.PNEUMONIA, "Dr B", None, desk.clock())
    assert desk.worklist() == []
    decisions.review(desk.database, STUDY, uncertain, "Dr C", None, desk.clock())
    assert desk.entry().review_reader == "Dr C", "a doubt brings it back"
    decisions.review(desk.database, STUDY, uncertain, "Dr A", None, desk.clock(), UncertainReview.LEAVES)
    assert desk.worklist() == []


def test_stat_for_a_study_that_was_read_says_so_and_brings_it_back_when_asked(desk: Ledger) -> None:
    desk.receive()
    desk.screen(STUDY, 0.1)
    decisions.review(desk.database, STUDY, ReviewOutcome.NO_PNEUMONIA, "Dr A", None, desk.clock())
    with pytest.raises(AlreadyRead, match=r"read \(no pneumonia, by Dr A, 2026-03-02 08:00 UTC\).*--bring-back"):
        decisions.prioritise(desk.database, STUDY, Priority.STAT, "Ben", desk.clock())
    assert (desk.worklist(), desk.count("prioritisation")) == ([], 0)
    decisions.prioritise(desk.database, STUDY, Priority.STAT, "Ben", desk.clock(), brings_back=True)
    assert desk.entry().band == Band.STAT
    assert explained(desk.entry()) == "stat, below threshold, read as no pneumonia by Dr A"
    told = [(e.who, e.deed) for e in audit.trail(desk.database, EVER, STUDY)]
    assert ("Ben", "returned") in told


def test_a_priority_is_audited_and_can_be_taken_back_by_a_person(desk: Ledger) -> None:
    desk.receive()
    decisions.prioritise(desk.database, STUDY, Priority.STAT, "Dr A", desk.clock())
    assert desk.entry().band == Band.STAT
    decisions.prioritise(desk.database, STUDY, Priority.ROUTINE, "Dr B", desk.clock())
    assert desk.entry().band == Band.WAITING
    given = show(desk.database, desk.store, STUDY)["priorities"]
    assert [(p["priority"], p["given_by"]) for p in given] == [("stat", "Dr A"), ("routine", "Dr B")]


def test_among_stat_studies_flags_stand_first_and_negatives_last(desk: Ledger) -> None:
    for name, probability in (("a", 0.2), ("b", 0.8), ("c", None), ("d", 0.9)):
        desk.receive(name, content=name, priority=Priority.STAT)
        desk.clock.forward(1)
        if probability is not None:
            desk.screen(name, probability)
    assert [e.study_uid for e in desk.worklist()] == ["d", "b", "c", "a"]


def test_a_study_is_found_by_uid_first_then_by_an_accession_number_of_its_own(desk: Ledger) -> None:
    desk.receive("a", content="a", accession_number="N")
    desk.receive("b", content="b", accession_number="N")
    desk.receive("c", content="c", accession_number="a")  # a hostile number: another study's UID
    assert show(desk.database, desk.store, "a")["accession_number"] == "N"
    decisions.review(desk.database, "a", ReviewOutcome.PNEUMONIA, "Dr A", None, desk.clock())
    assert [e.study_uid for e in desk.worklist()] == ["b", "c"]
    for find in (
        lambda: show(desk.database, desk.store, "N"),
        lambda: decisions.prioritise(desk.database, "N", Priority.STAT, "Dr A", desk.clock()),
    ):
        with pytest.raises(UnknownStudy, match=r"this: a \(received 2026-03-02 08:00 UTC\), b \("):
            find()
    with pytest.raises(UnknownStudy, match="no such study"):
        show(desk.database, desk.store, "nobody")


def test_all_that_is_kept_of_a_study_is_plain_json(desk: Ledger) -> None:
    desk.receive(content="one", modality=None)
    desk.receive(STUDY, f"{STUDY}.1.2", "half", unreadable="truncated")
    held = desk.claim()
    desk.record(held, 0.9, headers=[image(modality=None)])
    decisions.review(desk.database, STUDY, ReviewOutcome.PNEUMONIA, "Dr A", None, desk.clock())
    kept = json.loads(json.dumps(show(desk.database, desk.store, STUDY)))
    assert [(i["probability"], i["unreadable"]) for i in kept["images"]] == [(0.9, None), (None, "truncated")]
    assert kept["images"][0]["notes"] == ["radiograph=unknown", "presentation=unknown"]
    assert kept["images"][0]["heatmap"].endswith(".png")
    assert [f["state"] for f in kept["files"]] == ["accepted", "quarantined"]
    assert kept["screenings"][0]["screened_at"] == "2026-03-02T08:00:00+00:00"
    for moment in ("received_at", "settles_at", "offered_at", "read_at"):
        assert kept[moment] == "2026-03-02T08:00:00+00:00"


def test_moments_are_written_alike_on_every_database(desk: Ledger) -> None:
    desk.receive()
    desk.screen(STUDY, 0.1)
    decisions.review(desk.database, STUDY, ReviewOutcome.NOT_ASSESSABLE, "Dr A", None, desk.clock())
    kept = show(desk.database, desk.store, STUDY)
    given = [kept["not_assessable_at"], kept["received_at"], kept["reviews"][0]["reviewed_at"]]
    assert given == [desk.clock().isoformat()] * 3
