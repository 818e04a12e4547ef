"""A study gets its verdict once, although workers die, and messages come twice or late."""

import threading
from collections.abc import Callable
from dataclasses import replace

import pytest
from sqlalchemy import text

from schema.vocabulary import Band, Priority, Reason, StudyState
from tests.ledger import STUDY, Clock, Ledger, claim_one, digest
from worker.errors import NotRequeueable, UnknownStudy
from worker.ledger import decisions
from worker.ledger.screening import claims
from worker.ledger.screening.outbox import Backlog, reoffer
from worker.ledger.screening.results import Claim

A, B, C = (f"{STUDY}.{n}" for n in (1, 2, 3))


def three_studies(desk: Ledger) -> None:
    for study_uid in (A, B, C):
        desk.receive(study_uid, content=study_uid)
        desk.clock.forward(1)


def reoffered(desk: Ledger) -> list[str]:
    """What is offered again although messages wait."""
    backlog = Backlog(dict.fromkeys(Priority))
    return [offer.study_uid for offer in reoffer(desk.database, desk.settings, desk.clock(), backlog)]


def at_once(count: int, work: Callable[[], object]) -> None:
    together = threading.Barrier(count)

    def run() -> None:
        together.wait()
        work()

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_one_of_two_workers_gets_the_claim(desk: Ledger) -> None:
    for number in range(5):
        study_uid = f"{STUDY}.{number}"
        desk.receive(study_uid, content=study_uid)
        desk.offer()
        found: list[Claim | None] = []

        def work(study_uid: str = study_uid, found: list[Claim | None] = found) -> None:
            found.append(claim_one(desk.database, study_uid, desk.settings, desk.clock()))

        at_once(4, work)
        assert len(found) == 4
        assert sum(claim is not None for claim in found) == 1
        assert desk.study(study_uid).attempts == 1


def test_only_a_queued_study_can_be_claimed(desk: Ledger) -> None:
    desk.receive()
    assert claim_one(desk.database, STUDY, desk.settings, desk.clock()) is None, "not offered yet"
    desk.screen()
    assert claim_one(desk.database, STUDY, desk.settings, desk.clock()) is None, "done"
    assert claim_one(desk.database, "1.2.3", desk.settings, desk.clock()) is None, "unknown"


def test_a_lapsed_lease_gives_the_study_back(desk: Ledger) -> None:
    desk.receive()
    dead = desk.claim()
    desk.clock.forward(desk.settings.lease_s)
    assert claims.take_back_lapsed(desk.database, desk.settings, desk.clock()) == 0, "the lease has not lapsed yet"
    desk.clock.forward(1)
    assert claims.take_back_lapsed(desk.database, desk.settings, desk.clock()) == 1
    assert (desk.study().state, desk.study().claim) == ("queued", None)
    assert reoffered(desk) == [STUDY]
    alive = claim_one(desk.database, STUDY, desk.settings, desk.clock())
    assert alive is not None
    assert desk.record(dead, 0.9) is False, "the dead worker's late result is dropped"
    assert desk.record(alive, 0.1)
    assert desk.record(alive, 0.9) is False, "a message that comes twice changes nothing"
    assert (desk.count("screening"), desk.entry().probability, desk.study().attempts) == (1, 0.1, 0)


def test_a_heartbeat_prolongs_the_lease(desk: Ledger) -> None:
    desk.receive()
    held = desk.claim()
    for _ in range(10):
        desk.clock.forward(desk.settings.heartbeat_s)
        claims.heartbeat(desk.database, [held.token], desk.settings, desk.clock())
        assert claims.take_back_lapsed(desk.database, desk.settings, desk.clock()) == 0
    assert desk.record(held, 0.1)


def test_three_dead_workers_make_a_failure_that_people_see_until_it_is_requeued(desk: Ledger) -> None:
    desk.receive()
    for _ in range(desk.settings.max_attempts):
        assert desk.study().state != StudyState.FAILED
        desk.claim()
        desk.clock.forward(desk.settings.lease_s + 1)
        claims.take_back_lapsed(desk.database, desk.settings, desk.clock())
    entry = desk.entry()
    assert (entry.state, entry.band, entry.reason) == ("failed", Band.ATTENTION, Reason.ATTEMPTS_EXHAUSTED)
    assert entry.failure_code == "attempts_exhausted"
    assert "3 workers died" in desk.study().failure_detail
    assert desk.offer() == []
    assert decisions.requeue(desk.database, STUDY, desk.settings, desk.clock()) == STUDY
    desk.screen(STUDY, 0.1)
    entry = desk.entry()
    assert (entry.state, entry.band, entry.failure_code) == ("screened", Band.NOT_FLAGGED, None)


def test_an_interrupted_study_gets_its_attempt_back(desk: Ledger) -> None:
    desk.receive()
    for _ in range(10):
        held = desk.claim()
        for _twice in range(2):
            claims.give_back_all(desk.database, [held], desk.clock())
            assert (desk.study().state, desk.study().attempts) == ("queued", 0)


def test_a_failure_stands_above_the_negatives_with_its_code(desk: Ledger) -> None:
    three_studies(desk)
    desk.screen(A, 0.1)
    held = desk.claim(B)
    assert claims.fail(desk.database, held, "zero_division", "traceback", desk.clock())
    assert [(e.study_uid, e.band, e.failure_code) for e in desk.worklist()] == [
        (B, Band.ATTENTION, "zero_division"), (C, Band.WAITING, None), (A, Band.NOT_FLAGGED, None),
    ]  # fmt: skip
    assert desk.record(held, 0.1) is False


def test_a_failure_after_a_flag_keeps_the_place_and_says_that_it_failed(desk: Ledger) -> None:
    desk.receive()
    desk.screen(STUDY, 0.9)
    desk.receive(STUDY, f"{STUDY}.1.2", "two")
    claims.fail(desk.database, desk.claim(), "zero_division", "traceback", desk.clock())
    assert (desk.entry().band, desk.entry().reason) == (Band.FLAGGED, Reason.UNEXPECTED_ERROR)


def test_recover_starts_over(desk: Ledger) -> None:
    three_studies(desk)
    desk.screen(A)
    dead = desk.claim(B)
    claims.recover(desk.database, desk.settings, desk.clock())
    assert [desk.study(uid).state for uid in (A, B, C)] == ["screened", "queued", "queued"]
    assert reoffered(desk) == [B, C]
    assert desk.record(dead, 0.9) is False
    assert desk.study(B).attempts == 1, "the claim that died counts"


def test_a_requeue_gives_a_second_result_and_the_list_shows_the_newest(desk: Ledger) -> None:
    desk.receive()
    desk.screen(STUDY, 0.9)
    decisions.requeue(desk.database, STUDY, desk.settings, desk.clock())
    desk.screen(STUDY, 0.2)
    assert (desk.count("screening"), desk.entry().probability, desk.study().revision) == (2, 0.2, 2)
    with desk.database.reading() as connection:
        doubled = text("SELECT study_id FROM screening GROUP BY study_id, revision, model_digest HAVING COUNT(*) > 1")
        assert connection.execute(doubled).all() == []


def test_only_an_ended_study_can_be_requeued(desk: Ledger) -> None:
    desk.receive()
    with pytest.raises(NotRequeueable, match="is received already"):
        decisions.requeue(desk.database, STUDY, desk.settings, desk.clock())
    with pytest.raises(UnknownStudy, match="no such study"):
        decisions.requeue(desk.database, "1.2.3", desk.settings, desk.clock())


def test_the_row_keeps_what_the_model_said(desk: Ledger) -> None:
    desk.receive(is_settled=True)
    desk.clock.forward(20)
    held = desk.claim()
    desk.clock.forward(2)
    desk.record(held, 0.75)
    with desk.database.reading() as connection:
        row = connection.execute(text("SELECT * FROM screening")).one()
        finding = connection.execute(text("SELECT * FROM finding")).one()
    assert (row.verdict, row.reason, row.probability, row.threshold) == ("flagged", "at_or_above_threshold", 0.75, 0.5)
    assert (row.provider, row.model_digest, row.screened_on) == ("CPUExecutionProvider", "a" * 64, "2026-03-02")
    assert (row.waited_s, row.worked_s, row.deciding_finding) == (22.0, 2.0, 0)
    assert (finding.heatmap_rows, finding.heatmap_columns, bytes(finding.heatmap)) == (2, 3, b"\x00\x38" * 6)
    assert (finding.familiarity, finding.overlay_digest) == (1.5, digest("overlay 0"))


def test_the_first_results_of_a_new_model_may_come_at_once(desk: Ledger) -> None:
    for number in range(4):
        desk.receive(f"{STUDY}.{number}", content=str(number))
    for turn in range(3):
        use = replace(desk.model, digest=str(turn) * 64)
        claims = [desk.claim(f"{STUDY}.{number}") for number in range(4)]
        recorded: list[bool] = []
        desks = [Ledger(desk.database, desk.settings, desk.store, Clock(desk.clock()), use) for _ in claims]
        pairs = list(zip(desks, claims, strict=True))

        def work(pairs: list[tuple[Ledger, Claim]] = pairs, recorded: list[bool] = recorded) -> None:
            hand, claim = pairs.pop()
            recorded.append(hand.record(claim, 0.1))

        at_once(4, work)
        assert recorded == [True] * 4
        for number in range(4):
            decisions.requeue(desk.database, f"{STUDY}.{number}", desk.settings, desk.clock())
