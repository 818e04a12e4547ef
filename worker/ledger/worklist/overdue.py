"""When a study is overdue, and how overdue ones and late results move up the worklist.

Imports little, because readers use it too.
"""

from datetime import UTC, datetime, timedelta

from sqlalchemy import select

from schema.database import Database
from schema.models import Study
from schema.vocabulary import UNDERWAY, Band, Priority
from worker.ledger.transactions import writing
from worker.ledger.worklist.ordering import current_screening, place
from worker.settings import Settings

#: When a study of an archive is overdue: never, because ten thousand of them would come before today's flagged studies.
NEVER = datetime(9999, 1, 1, tzinfo=UTC)


def overdue_at(priority: Priority, settings: Settings, now: datetime) -> datetime:
    """When a study received now becomes overdue if nobody reads it."""
    return NEVER if priority is Priority.NIGHTLY else now + timedelta(hours=settings.overdue_after_h)


def advance(database: Database, now: datetime) -> int:
    """Move unread studies that are due to the overdue band, or to the band that needs attention."""
    # each half uses its own index; with `band IN (...)` SQLite would read the whole list
    unread = Study.read_at.is_(None)
    overdue = unread & (Study.overdue_at <= now) & Study.band.not_in((Band.STAT, Band.OVERDUE))
    late = (
        unread
        & (Study.result_due_at <= now)
        & Study.state.in_(UNDERWAY)
        & Study.band.not_in((Band.STAT, Band.OVERDUE, Band.FLAGGED, Band.ATTENTION))
    )
    with writing(database) as session:
        studies = session.scalars(select(Study).where(overdue | late).with_for_update(skip_locked=True)).all()
        for study in studies:
            place(study, current_screening(session, study), now)
        return len(studies)
