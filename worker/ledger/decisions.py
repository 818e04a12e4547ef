"""Records what people decide: reviews, withdrawals, priorities, requeues. The program never edits one."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from schema.database import Database
from schema.models import Prioritisation, Review, Study, Withdrawal
from schema.setting_values import UncertainReview
from schema.vocabulary import AuditAction, Priority, Reason, ReviewOutcome, StudyState
from worker.errors import AlreadyRead, NothingToWithdraw, NotRequeueable, StudyChanged
from worker.ledger import audit
from worker.ledger.lookup import resolve
from worker.ledger.retention import is_pruned
from worker.ledger.transactions import writing
from worker.ledger.worklist.ordering import current_screening, place, request_screening_again, set_priority
from worker.settings import Settings


@dataclass(frozen=True)
class GivenVerdict:
    """A reader's verdict in force: the newest one, not withdrawn."""

    outcome: ReviewOutcome
    reader: str
    reviewed_at: datetime

    def __str__(self) -> str:
        """A text for messages."""
        return f"{self.outcome.replace('_', ' ')}, by {self.reader}, {self.reviewed_at:%Y-%m-%d %H:%M} UTC"


@dataclass(frozen=True)
class Seen:
    """What the page showed a reader before the verdict. If the study has changed since, the verdict is refused."""

    revision: int
    screening_id: int | None
    review_id: int | None  #: the newest review then, withdrawn or not
    saw_probability: bool
    saw_heatmap: bool
    saw_place: bool = True
    open_s: float | None = None  #: how long the study was open


@dataclass(frozen=True)
class Reviewed:
    """The effect of a review."""

    leaves_the_list: bool
    contradicted: GivenVerdict | None  #: the verdict in force before, if it differs


def review(
    database: Database,
    study: str,
    outcome: ReviewOutcome,
    reader: str,
    comment: str | None,
    now: datetime,
    uncertain: UncertainReview = UncertainReview.STAYS,
    seen: Seen | None = None,
) -> Reviewed:
    """Append a reader's verdict and remove the study from the worklist.

    An uncertain verdict keeps or returns the study to the worklist, unless `uncertain` says otherwise; one that is not
    assessable stays in band 4 until another verdict. Raises StudyChanged when the reader has `seen` something older.
    """
    with writing(database) as session:
        row = _study(session, study)
        if seen is not None:
            _refuse_changed(session, row, seen)
        before = _in_force(session, row)
        is_uncertain = outcome is ReviewOutcome.UNCERTAIN and uncertain is not UncertainReview.LEAVES
        is_not_assessable = outcome is ReviewOutcome.NOT_ASSESSABLE
        leaves = not (is_uncertain or is_not_assessable)
        session.add(
            Review(
                study_id=row.id,
                screening_id=row.current_screening_id,
                outcome=outcome,
                reader=reader,
                comment=comment,
                reviewed_at=now,
                saw_probability=None if seen is None else seen.saw_probability,
                saw_heatmap=None if seen is None else seen.saw_heatmap,
                saw_place=None if seen is None else seen.saw_place,
                open_s=None if seen is None else seen.open_s,
            )
        )
        row.read_at = now if leaves else None
        row.not_assessable_at = now if is_not_assessable else None
        if not leaves:
            place(row, current_screening(session, row), now)
        return Reviewed(leaves, None if before is None or before.outcome is outcome else before)


def withdraw(database: Database, study: str, by: str, reason: str, now: datetime) -> GivenVerdict:
    """Withdraw a study's verdict and return the study to the worklist; returns that verdict. Earlier verdicts of the
    study are then no longer in force.

    Raises NothingToWithdraw.
    """
    with writing(database) as session:
        row = _study(session, study)
        newest = _newest_review(session, row)
        if newest is None:
            raise NothingToWithdraw("nobody has reviewed it, or its review is withdrawn already").about(row.study_uid)
        session.add(Withdrawal(study_id=row.id, review_id=newest.id, withdrawn_by=by, reason=reason, withdrawn_at=now))
        _return_to_list(session, row, now)
        return GivenVerdict(newest.outcome, newest.reader, newest.reviewed_at)


def prioritise(
    database: Database, study: str, priority: Priority, by: str, now: datetime, *, brings_back: bool = False
) -> None:
    """Set a study's priority, with the name of the person who decided. `brings_back` returns a study that was read to
    the worklist.

    Without it, STAT on a study that was read raises AlreadyRead, because nobody would see it.
    """
    with writing(database) as session:
        row = _study(session, study)
        if row.read_at is not None and brings_back:
            session.add(audit.row(AuditAction.RETURNED, by, now, row.study_uid))
            _return_to_list(session, row, now)
        elif row.read_at is not None and priority is Priority.STAT:
            verdict = _in_force(session, row)
            read = f"it was read ({verdict})" if verdict else "it was read"
            raise AlreadyRead(f"{read} and is not on the list: --bring-back returns it, as {priority}").about(
                row.study_uid
            )
        set_priority(row, priority)
        session.add(Prioritisation(study_id=row.id, priority=priority, given_by=by, given_at=now))
        place(row, current_screening(session, row), now)


def requeue(database: Database, study: str, settings: Settings, now: datetime, by: str = "") -> str:
    """Have a FAILED or SCREENED study screened again; returns its UID.

    Raises NotRequeueable for a study that already waits for a result, or whose images were pruned.
    """
    with writing(database) as session:
        row = _study(session, study)
        if row.state not in (StudyState.FAILED, StudyState.SCREENED):
            raise NotRequeueable(f"the study is {row.state} already; wait for its result").about(row.study_uid)
        if is_pruned(session, row.id):
            raise NotRequeueable("its images were pruned from the store: send them again").about(row.study_uid)
        request_screening_again(session, row, Reason.REQUEUED, settings, now)
        session.add(audit.row(AuditAction.REQUEUED, by, now, row.study_uid))
        return row.study_uid


def rescreen(database: Database, study_uid: str, settings: Settings, now: datetime) -> bool:
    """Have a SCREENED study screened again when no other study waits; False when it already waits for a result, is
    FAILED, or was pruned."""
    with writing(database) as session:
        row = session.scalars(select(Study).where(Study.study_uid == study_uid).with_for_update()).one()
        if row.state is not StudyState.SCREENED or is_pruned(session, row.id):
            return False
        request_screening_again(session, row, Reason.RESCREENED, settings, now)
        return True


def _refuse_changed(session: Session, row: Study, seen: Seen) -> None:
    newest = session.scalar(select(func.max(Review.id)).where(Review.study_id == row.id))
    if (row.revision, row.current_screening_id, newest) != (seen.revision, seen.screening_id, seen.review_id):
        what = "another verdict was given" if newest != seen.review_id else "new images or another result came"
        raise StudyChanged(f"{what} after you opened it: look at both, and confirm again").about(row.study_uid)


def _return_to_list(session: Session, row: Study, now: datetime) -> None:
    row.read_at = row.not_assessable_at = None
    place(row, current_screening(session, row), now)


def _newest_review(session: Session, row: Study) -> Review | None:
    """The study's newest review, unless it is withdrawn."""
    last = select(func.max(Review.id)).where(Review.study_id == row.id).scalar_subquery()
    newest = session.scalars(select(Review).where(Review.id == last)).one_or_none()
    if newest is None:
        return None
    withdrawn = session.scalars(select(Withdrawal.id).where(Withdrawal.review_id == newest.id)).first()
    return newest if withdrawn is None else None


def _in_force(session: Session, row: Study) -> GivenVerdict | None:
    newest = _newest_review(session, row)
    return None if newest is None else GivenVerdict(newest.outcome, newest.reader, newest.reviewed_at)


def _study(session: Session, study: str) -> Study:
    """The study that a person has named; raises UnknownStudy."""
    uid = resolve(session, study)
    return session.scalars(select(Study).where(Study.study_uid == uid).with_for_update()).one()
