"""Records what people decide: reviews, priorities, requeues. The program never edits or removes a decision."""

from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from schema.database import Database
from schema.models import Prioritisation, Review, Study
from schema.vocabulary import AuditAction, Priority, Reason, ReviewOutcome, StudyState
from worker.errors import NotRequeueable
from worker.ledger import audit
from worker.ledger.lookup import resolve
from worker.ledger.ordering import current_screening, move, place, set_priority
from worker.ledger.retention import is_pruned
from worker.ledger.transactions import writing
from worker.settings import Settings


def review(
    database: Database, study: str, outcome: ReviewOutcome, reader: str, comment: str | None, now: datetime
) -> None:
    """Append a reader's verdict and remove the study from the worklist."""
    with writing(database) as session:
        row = _study(session, study)
        session.add(
            Review(
                study_id=row.id,
                screening_id=row.current_screening_id,
                outcome=outcome,
                reader=reader,
                comment=comment,
                reviewed_at=now,
            )
        )
        row.read_at = now


def prioritise(database: Database, study: str, priority: Priority, by: str, now: datetime) -> None:
    """Set a study's priority, with the name of the person who decided."""
    with writing(database) as session:
        row = _study(session, study)
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
        _request_screening_again(session, row, Reason.REQUEUED, settings, now)
        session.add(audit.row(AuditAction.REQUEUED, by, now, row.study_uid))
        return row.study_uid


def rescreen(database: Database, study_uid: str, settings: Settings, now: datetime) -> bool:
    """Have a SCREENED study screened again when no other study waits; False when it already waits for a result, is
    FAILED, or was pruned."""
    with writing(database) as session:
        row = session.scalars(select(Study).where(Study.study_uid == study_uid).with_for_update()).one()
        if row.state is not StudyState.SCREENED or is_pruned(session, row.id):
            return False
        _request_screening_again(session, row, Reason.RESCREENED, settings, now)
        return True


def _request_screening_again(session: Session, row: Study, why: Reason, settings: Settings, now: datetime) -> None:
    move(row, StudyState.RECEIVED)
    row.revision, row.attempts = row.revision + 1, 0
    row.failure_code = row.failure_detail = None
    row.asked_at = row.settles_at = now
    row.asked_because = why
    row.result_due_at = now + timedelta(seconds=settings.result_due_s)
    place(row, current_screening(session, row), now)


def _study(session: Session, study: str) -> Study:
    """The study that a person has named; raises UnknownStudy."""
    uid = resolve(session, study)
    return session.scalars(select(Study).where(Study.study_uid == uid).with_for_update()).one()
