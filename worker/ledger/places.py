"""Where a study stands: its state, and its place on the worklist. Called on every change of a row."""

from datetime import datetime

from sqlalchemy.orm import Session

from schema.models import Screening, Study
from schema.vocabulary import TRANSITIONS, Band, Priority, Reason, StudyState, Verdict

BAND_OF_VERDICT = {
    Verdict.FLAGGED: Band.FLAGGED,
    Verdict.UNSCREENABLE: Band.ATTENTION,
    Verdict.NOT_FLAGGED: Band.NOT_FLAGGED,
    Verdict.INELIGIBLE: Band.INELIGIBLE,
}

#: Seven digits of probability in the sort key: finer differences than 1e-7 fall to the older study.
PROBABILITY_STEPS = 9_999_999


def move(study: Study, state: StudyState) -> None:
    """Set a study's state; raises ValueError for a step that TRANSITIONS does not have."""
    if state not in TRANSITIONS[study.state]:
        raise ValueError(f"a study cannot go from {study.state} to {state}")
    study.state = state


def give_priority(study: Study, priority: Priority) -> None:
    """Set a study's priority. One that becomes STAT while queued is offered afresh: its message lies behind others."""
    if priority is Priority.STAT and study.priority is not Priority.STAT and study.state is StudyState.QUEUED:
        study.offered_at = None
    study.priority = priority


def current_screening(session: Session, study: Study) -> Screening | None:
    """The screening that the worklist shows for a study."""
    if study.current_screening_id is None:
        return None
    return session.get(Screening, study.current_screening_id)


def place(study: Study, screening: Screening | None, now: datetime) -> None:
    """Set `band`, `sort_key` and `reason` of a study from its rows, as of `now` (DESIGN §4.10)."""
    study.band, study.reason = _band(study, screening, now)
    by_probability = study.band in (Band.STAT, Band.FLAGGED) and screening is not None
    probability = screening.probability if by_probability and screening is not None else None
    study.sort_key = sort_key(probability, study.received_at)


def sort_key(probability: float | None, received_at: datetime) -> str:
    """Twenty digits that sort by falling probability (absent: as 0), then by age, the oldest first."""
    improbability = round((1.0 - (probability or 0.0)) * PROBABILITY_STEPS)
    return f"{improbability:07d}{int(received_at.timestamp() * 1000):013d}"


def _band(study: Study, screening: Screening | None, now: datetime) -> tuple[Band, Reason]:
    if study.priority is Priority.STAT:
        return Band.STAT, Reason.STAT
    if study.overdue_at <= now:
        return Band.OVERDUE, Reason.OVERDUE
    flagged = screening is not None and screening.verdict is Verdict.FLAGGED
    if study.state is StudyState.FAILED:  # a flag from before keeps its place
        exhausted = study.failure_code == Reason.ATTEMPTS_EXHAUSTED
        reason = Reason.ATTEMPTS_EXHAUSTED if exhausted else Reason.UNEXPECTED_ERROR
        return Band.FLAGGED if flagged else Band.ATTENTION, reason
    if flagged:
        stale = study.state is not StudyState.SCREENED
        return Band.FLAGGED, Reason.NEW_IMAGES if stale else Reason.AT_OR_ABOVE_THRESHOLD
    if study.conflict is not None:
        return Band.ATTENTION, study.conflict
    if study.state is not StudyState.SCREENED:
        if study.result_due_at <= now:
            return Band.ATTENTION, Reason.RESULT_LATE
        if screening is not None:  # the old verdict keeps its place until the new images are screened
            return BAND_OF_VERDICT[screening.verdict], Reason.NEW_IMAGES
        return Band.WAITING, Reason.AWAITING_RESULT
    assert screening is not None, "a SCREENED study has a screening"
    return BAND_OF_VERDICT[screening.verdict], screening.reason
