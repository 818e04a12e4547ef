"""Offers studies to the broker: those that have settled, and those whose message seems to be lost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, String, and_, case, cast, or_, select, update

from schema import models
from schema.database import Database, in_lists
from schema.vocabulary import Priority, Reason, StudyState
from worker.ledger.clocks import CLOCKS_DIFFER_S
from worker.ledger.transactions import writing
from worker.ledger.worklist.ordering import move
from worker.settings import Settings

#: A queued study is not offered again within this time, even when the broker is empty: its message may be in transit.
SETTLE_OFFER_S = 5.0

#: Longest wait before an interrupted study is tried again.
LONGEST_COUNTDOWN_S = 300

#: Studies that are offered in one transaction; the others follow at the next sweep.
OFFERED_AT_ONCE = 1000

#: Queues in the order in which workers empty them, named after the priority of their studies.
QUEUES = (Priority.STAT, Priority.ROUTINE, Priority.NIGHTLY)

#: The queue of a study, in SQL: a rescreened study waits like an archive, unless it is STAT.
queue_of_study = case(
    (models.Study.priority == Priority.STAT, str(Priority.STAT)),
    (models.Study.asked_because == Reason.RESCREENED, str(Priority.NIGHTLY)),
    else_=cast(models.Study.priority, String),
)


@dataclass(frozen=True)
class Offer:
    """A study to enqueue, on the queue of this name."""

    study_uid: str
    queue: Priority
    offered_at: datetime
    is_suspect: bool = False  #: a worker died while it held the study


@dataclass(frozen=True)
class Backlog:
    """The messages in the broker."""

    #: For each queue with waiting messages: when the studies of its next message were offered (None: unknown).
    next_offered: Mapping[Priority, datetime | None] = field(default_factory=dict)
    taken: frozenset[str] = frozenset()  #: studies of messages that were taken within the last lease
    unacknowledged: int = 0  #: messages taken at any time, by running and by dead workers

    @property
    def is_empty(self) -> bool:
        """Whether there is no message at all."""
        return not self.next_offered and not self.unacknowledged


def settle(database: Database, study_uids: Sequence[str], now: datetime) -> None:
    """Let these studies be offered now, because their sender said that no more images will come."""
    with writing(database) as session:
        for uids in in_lists(study_uids):
            session.execute(
                update(models.Study)
                .where(models.Study.study_uid.in_(uids))
                .where(models.Study.state == StudyState.RECEIVED, models.Study.settles_at > now)
                .values(settles_at=now)
            )


def offer(database: Database, now: datetime, limit: int = OFFERED_AT_ONCE) -> list[Offer]:
    """Move settled RECEIVED studies to QUEUED and return them, ordered by queue, band and age, for the broker."""
    settled = or_(models.Study.settles_at <= now, models.Study.asked_at > now + timedelta(seconds=CLOCKS_DIFFER_S))
    return _offered(database, and_(models.Study.state == StudyState.RECEIVED, settled), now, limit)


def reoffer(database: Database, settings: Settings, now: datetime, backlog: Backlog) -> list[Offer]:
    """QUEUED studies whose message seems to be lost, to be offered again.

    If no message waits in a study's queue and no worker has just taken one with the study, its message is lost. If
    messages do wait, the study is offered again after `reoffer_after_s`, but only if the next message was offered after
    the study: messages are taken in order, so a long but healthy backlog is never offered twice.
    """
    lost = [_unsent(now)]
    for queue in QUEUES:
        next_offered = backlog.next_offered.get(queue)
        age_s = settings.reoffer_after_s if queue in backlog.next_offered else SETTLE_OFFER_S
        before = min(now - timedelta(seconds=age_s), next_offered or now)
        lost.append(and_(queue_of_study == queue, models.Study.offered_at < before))
    which = and_(models.Study.state == StudyState.QUEUED, models.Study.study_uid.not_in(backlog.taken), or_(*lost))
    return _offered(database, which, now, OFFERED_AT_ONCE)


def postpone(database: Database, study_uids: Sequence[str], until: datetime) -> None:
    """Let these QUEUED studies wait for their message, which comes again at `until`; until then it is not lost."""
    with writing(database) as session:
        session.execute(
            update(models.Study)
            .where(models.Study.study_uid.in_(study_uids), models.Study.state == StudyState.QUEUED)
            .values(offered_at=until)
        )


def _unsent(now: datetime) -> ColumnElement[bool]:
    """Never sent, given back by its worker, or offered at a moment that is in the future for every clock."""
    planned = now + timedelta(seconds=LONGEST_COUNTDOWN_S + CLOCKS_DIFFER_S)
    return or_(models.Study.offered_at.is_(None), models.Study.offered_at > planned)


def _offered(database: Database, which: ColumnElement[bool], now: datetime, limit: int) -> list[Offer]:
    order = case({str(queue): place for place, queue in enumerate(QUEUES)}, value=queue_of_study)
    with writing(database) as session:
        found = session.execute(
            select(models.Study, queue_of_study)
            .where(which)
            .order_by(order, models.Study.band, models.Study.received_at, models.Study.id)
            .limit(limit)
            .with_for_update(skip_locked=True)
        ).all()
        for study, _ in found:
            if study.state is StudyState.RECEIVED:
                move(study, StudyState.QUEUED)
            study.offered_at = now
        return [Offer(study.study_uid, Priority(queue), now, study.attempts > 0) for study, queue in found]
