"""The beginning and the end of a silent run: every unread study is placed anew, in one audited transaction."""

from datetime import datetime

from sqlalchemy import ColumnElement, select

from schema.database import Database
from schema.models import Screening, Study
from schema.vocabulary import SILENT_KEY, AuditAction, Band
from worker.ledger import audit
from worker.ledger.transactions import writing
from worker.ledger.worklist.ordering import place

#: Who places the studies: the setting, as the process that follows it knows it.
SETTING = "setting SCREENING_SILENT"

#: The bands of studies that a silent run places elsewhere than a list in use does.
BANDS = (Band.STAT, Band.OVERDUE, Band.FLAGGED, Band.NOT_FLAGGED)


def follow_setting(database: Database, now: datetime) -> int:
    """Place every unread study as the setting wants it, if one is not; returns how many.

    For the sweep of watchers only: a person's console may have other settings than the service.
    """
    is_silent = database.is_silent_run
    with writing(database) as session:
        if not any(session.scalars(select(Study.id).where(each).limit(1)).first() for each in _misplaced(is_silent)):
            return 0
        rows = session.execute(
            select(Study, Screening)
            .outerjoin(Screening, Screening.id == Study.current_screening_id)
            .where(Study.read_at.is_(None))
            .with_for_update(of=Study)
        ).all()
        for study, screening in rows:
            place(study, screening, now)
        what = f"silent run {'on' if is_silent else 'off'}"
        session.add(
            audit.row(AuditAction.PLACED_ANEW, SETTING, now, subject=what, detail=f"{len(rows)} unread studies")
        )
        return len(rows)


def _misplaced(is_silent: bool) -> list[ColumnElement[bool]]:
    """Conditions on unread studies that are placed as the other setting places them: each a range of the index.

    A range is the first sort key of it, and the first one after it.
    """
    flagged = (f"{int(Band.FLAGGED)}", _next(f"{int(Band.FLAGGED)}"))
    silent = (SILENT_KEY, _next(SILENT_KEY))
    not_flagged = (_next(SILENT_KEY), _next(f"{int(Band.NOT_FLAGGED)}"))
    ranges = (flagged, not_flagged) if is_silent else (silent,)
    return [
        Study.read_at.is_(None) & (Study.band == band) & (Study.sort_key >= low) & (Study.sort_key < high)
        for band in BANDS
        for low, high in ranges
    ]


def _next(digits: str) -> str:
    """The first digits that sort after all that begin with these."""
    return f"{int(digits) + 1:0{len(digits)}d}"
