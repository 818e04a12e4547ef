"""What is offered to the broker, what is offered again because its message was lost, and what is not."""

from collections import deque
from datetime import timedelta

import pytest
from sqlalchemy import insert

from schema import models
from schema.vocabulary import Priority, StudyState
from tests.backlog import STUDIES, study_rows
from tests.ledger import STUDY, Ledger, claim_one
from worker.ledger import decisions
from worker.ledger.clocks import CLOCKS_DIFFER_S
from worker.ledger.screening import claims
from worker.ledger.screening.outbox import (
    LONGEST_COUNTDOWN_S,
    QUEUES,
    SETTLE_OFFER_S,
    Backlog,
    Offer,
    offer,
    postpone,
    reoffer,
)

A, B, C = (f"{STUDY}.{n}" for n in (1, 2, 3))

EMPTY = Backlog()
#: Messages of unknown age wait in every queue.
BUSY = Backlog(dict.fromkeys(QUEUES))


def three_studies(desk: Ledger) -> None:
    for study_uid in (A, B, C):
        desk.receive(study_uid, content=study_uid)
        desk.clock.forward(1)


def lost(desk: Ledger, backlog: Backlog, after_s: float = 0.0) -> list[str]:
    """Let time pass, and see what is offered again."""
    offers = reoffer(desk.database, desk.settings, desk.clock.forward(after_s), backlog)
    return [offer.study_uid for offer in offers]


def test_stat_is_offered_first_then_the_oldest_and_each_once(desk: Ledger) -> None:
    three_studies(desk)
    decisions.prioritise(desk.database, C, Priority.STAT, "Dr A", desk.clock())
    now = desk.clock()
    assert offer(desk.database, now, limit=2) == [Offer(C, Priority.STAT, now), Offer(A, Priority.ROUTINE, now)]
    assert desk.offer() == [B]
    assert desk.offer() == []


def test_an_archive_is_offered_last_however_old(desk: Ledger) -> None:
    desk.receive(A, content=A, priority=Priority.NIGHTLY)
    desk.clock.forward(hours=5)
    desk.receive(B, content=B)
    desk.receive(C, content=C, priority=Priority.STAT)
    assert [o.queue for o in offer(desk.database, desk.clock())] == [Priority.STAT, Priority.ROUTINE, Priority.NIGHTLY]


@pytest.mark.parametrize(("backlog", "after_s"), [(EMPTY, SETTLE_OFFER_S), (BUSY, 600.0)])
def test_a_lost_message_is_offered_again_but_not_too_soon(desk: Ledger, backlog: Backlog, after_s: float) -> None:
    desk.receive()
    desk.offer()
    assert lost(desk, backlog, after_s) == []
    assert lost(desk, backlog, 1) == [STUDY]
    assert lost(desk, backlog) == []


def test_a_message_that_was_just_taken_is_not_lost(desk: Ledger) -> None:
    three_studies(desk)
    desk.offer()
    assert lost(desk, Backlog(taken=frozenset({A, C}), unacknowledged=1), SETTLE_OFFER_S + 1) == [B]


def test_each_queue_is_empty_by_itself(desk: Ledger) -> None:
    """A backlog of routine studies does not keep a STAT study waiting whose message was lost."""
    three_studies(desk)
    decisions.prioritise(desk.database, B, Priority.STAT, "Dr A", desk.clock())
    desk.offer()
    assert lost(desk, Backlog({Priority.ROUTINE: desk.clock()}), SETTLE_OFFER_S + 1) == [B]


def test_a_queued_study_that_becomes_stat_is_offered_again_at_once(desk: Ledger) -> None:
    """Its first message lies behind the backlog of the routine queue."""
    three_studies(desk)
    desk.offer()
    decisions.prioritise(desk.database, B, Priority.STAT, "Dr A", desk.clock())
    desk.receive(C, content=C, priority=Priority.STAT)
    now = desk.clock()
    assert reoffer(desk.database, desk.settings, now, BUSY) == [Offer(u, Priority.STAT, now) for u in (B, C)]


def test_an_interrupted_study_waits_for_its_message(desk: Ledger) -> None:
    desk.receive()
    held = desk.claim()
    claims.give_back_all(desk.database, [held], desk.clock() + timedelta(seconds=LONGEST_COUNTDOWN_S))
    assert lost(desk, EMPTY, LONGEST_COUNTDOWN_S) == []
    postpone(desk.database, [STUDY], desk.clock() + timedelta(seconds=60))
    assert lost(desk, EMPTY, 60) == []
    assert lost(desk, EMPTY, SETTLE_OFFER_S + 1) == [STUDY], "that message was lost too"


@pytest.mark.parametrize("hours", [1, -1])
def test_a_clock_that_jumps_loses_nothing(desk: Ledger, hours: int) -> None:
    """Received, queued, held by the dead and by the living: each goes on at once, though its moments lie far off."""
    desk.receive(A, content=A)
    desk.receive(B, content=B)
    desk.offer()
    desk.receive(C, content=C, is_settled=False)
    dead = claim_one(desk.database, B, desk.settings, desk.clock())
    desk.clock.forward(hours=hours)
    assert desk.offer() == [C]
    assert sorted(lost(desk, EMPTY, SETTLE_OFFER_S + 1)) == [A, C]
    assert claims.take_back_lapsed(desk.database, desk.settings, desk.clock()) == 1
    assert dead is not None
    assert desk.record(dead, 0.9) is False
    assert B in lost(desk, BUSY)


def test_clocks_that_differ_a_little_change_nothing(desk: Ledger) -> None:
    desk.receive(is_settled=False)
    desk.clock.forward(-CLOCKS_DIFFER_S + 1)
    assert desk.offer() == []


SWEEP_S, SCREENED_A_SWEEP = 5.0, 25


@pytest.mark.parametrize("kind", ["sqlite"])  # on PostgreSQL and with a real broker: acceptance/test_broker.py
def test_a_healthy_backlog_of_ten_thousand_is_not_offered_twice(desk: Ledger) -> None:
    """It takes an hour, six times `reoffer_after_s`; every fortieth sweep is looked at."""
    with desk.database.writing() as session:
        session.execute(insert(models.Study), list(study_rows(STUDIES, desk.clock())))
    broker: deque[Offer] = deque()
    while offers := offer(desk.database, desk.clock()):
        broker.extend(offers)
        assert lost(desk, Backlog({Priority.ROUTINE: broker[0].offered_at}), SWEEP_S) == []
    assert len(broker) == STUDIES
    for _ in range(STUDIES // SCREENED_A_SWEEP // 40):
        taken = [broker.popleft().study_uid for _ in range(40 * SCREENED_A_SWEEP)]
        with desk.database.writing() as session:
            session.query(models.Study).where(models.Study.study_uid.in_(taken)).update({"state": StudyState.SCREENED})
        backlog = Backlog({Priority.ROUTINE: broker[0].offered_at} if broker else {})
        assert lost(desk, backlog, 40 * SWEEP_S) == []


def test_what_a_backlog_lost_is_found_when_later_ones_are_taken(desk: Ledger) -> None:
    desk.receive(A, content=A)
    desk.offer()
    desk.clock.forward(60)
    desk.receive(B, content=B)
    desk.offer()
    behind = Backlog({Priority.ROUTINE: desk.clock()})
    assert lost(desk, behind, 500) == [], "it may still be in work"
    assert lost(desk, behind, 100) == [A]
