"""A study's state and its place on the worklist. Called on every change of a row. When it is overdue: `overdue`."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from sqlalchemy.orm import Session, object_session

from schema.models import Screening, Study
from schema.vocabulary import SILENT_VERDICTS, TRANSITIONS, Band, Priority, Reason, StudyState, Verdict
from worker.settings import Settings

if TYPE_CHECKING:
    from worker.screening.rules import StudyVerdict  # it loads OpenCV, and reading a list sets places too

BAND_OF_VERDICT = {
    Verdict.FLAGGED: Band.FLAGGED,
    Verdict.UNSCREENABLE: Band.ATTENTION,
    Verdict.NOT_FLAGGED: Band.NOT_FLAGGED,
    Verdict.INELIGIBLE: Band.INELIGIBLE,
}

#: Seven digits of probability in the sort key; if two differ by less than 1e-7, the older study comes first.
PROBABILITY_STEPS = 9_999_999


@dataclass(frozen=True)
class StudyRow:
    """The columns of a study that decide its place, and that a verdict needs."""

    id: int
    study_uid: str
    state: StudyState
    revision: int
    priority: Priority
    conflict: Reason | None
    failure_code: str | None
    received_at: datetime
    asked_at: datetime
    asked_because: Reason
    not_assessable_at: datetime | None
    overdue_at: datetime
    result_due_at: datetime


@dataclass(frozen=True)
class Place:
    """A place on the worklist, as the columns of a study hold it."""

    band: Band
    reason: Reason
    sort_key: str


def move(study: Study, state: StudyState) -> None:
    """Set a study's state; raises ValueError for a step that is not in TRANSITIONS."""
    if state not in TRANSITIONS[study.state]:
        raise ValueError(f"a study cannot go from {study.state} to {state}")
    study.state = state


def request_screening_again(session: Session, study: Study, why: Reason, settings: Settings, now: datetime) -> None:
    """Have a study screened again that has a result, has failed, or is being screened; a claim on it ends."""
    move(study, StudyState.RECEIVED)
    study.revision, study.attempts = study.revision + 1, 0
    study.claim = study.lease_until = study.failure_code = study.failure_detail = None
    study.asked_at = study.settles_at = now
    study.asked_because = why
    study.not_assessable_at = None
    study.result_due_at = now + timedelta(seconds=settings.result_due_s)
    place(study, current_screening(session, study), now)


def set_priority(study: Study, priority: Priority) -> None:
    """Set a study's priority. If it rises while the study is queued, the study is offered again, because its message
    waits behind others; if it rises while the study is claimed, as soon as the claim is given back: see
    `claims.with_raised_priority`."""
    if outranks(priority, study.priority) and study.state in (StudyState.QUEUED, StudyState.SCREENING):
        study.offered_at = None
    study.priority = priority


def outranks(one: Priority, other: Priority) -> bool:
    """Whether studies of priority `one` are screened before those of `other`."""
    ranks = list(Priority)
    return ranks.index(one) < ranks.index(other)


def current_screening(session: Session, study: Study) -> Screening | None:
    """The screening that the worklist shows for a study."""
    if study.current_screening_id is None:
        return None
    return session.get(Screening, study.current_screening_id)


def place(study: Study, screening: Screening | None, now: datetime) -> None:
    """Set `band`, `sort_key` and `reason` of a study from its rows, as of `now`."""
    session = object_session(study)
    is_silent = session is not None and bool(session.info.get("is_silent_run"))
    found = place_of(study, screening, now, is_silent)
    study.band, study.reason, study.sort_key = found.band, found.reason, found.sort_key


def place_of(
    study: Study | StudyRow, screening: "Screening | StudyVerdict | None", now: datetime, is_silent: bool
) -> Place:
    """The place of a study on the worklist as of `now`.

    STAT comes first, then overdue studies; for all others the state and the verdict decide. In a silent run FLAGGED and
    NOT_FLAGGED decide nothing.
    """
    band_of = _silent_band if is_silent else _own_band
    own, own_reason = band_of(study, screening, now)
    band, reason = own, own_reason
    if study.priority is Priority.STAT:
        band, reason = Band.STAT, Reason.STAT
    elif study.overdue_at <= now:
        band, reason = Band.OVERDUE, Reason.OVERDUE
    probability = None
    if own_reason is Reason.SILENT_RUN:
        probability = 1.0  # the same for all
    elif own is Band.FLAGGED and screening is not None:
        probability = screening.probability
    return Place(band, reason, sort_key(own, probability, study.received_at))


def sort_key(own: Band, probability: float | None, received_at: datetime) -> str:
    """Twenty-one digits that sort by the band without STAT and overdue, then by falling probability, then by age.

    Among STAT and overdue studies too, failed and unscreenable ones therefore come before the negatives.
    """
    improbability = round((1.0 - (probability or 0.0)) * PROBABILITY_STEPS)
    return f"{own}{improbability:07d}{int(received_at.timestamp() * 1000):013d}"


def _silent_band(
    study: Study | StudyRow, screening: "Screening | StudyVerdict | None", now: datetime
) -> tuple[Band, Reason]:
    """As `_own_band`, but the place does not show whether the study is flagged."""
    is_silenced = screening is not None and screening.verdict in SILENT_VERDICTS
    if not is_silenced:
        return _own_band(study, screening, now)
    is_marked = study.conflict is not None or study.not_assessable_at is not None
    if is_marked or study.state is not StudyState.SCREENED:
        needs_attention, reason = _own_band(study, None, now)
        if needs_attention is Band.ATTENTION:
            return needs_attention, reason
    return Band.NOT_FLAGGED, Reason.SILENT_RUN


def _own_band(
    study: Study | StudyRow, screening: "Screening | StudyVerdict | None", now: datetime
) -> tuple[Band, Reason]:
    """Band and reason without STAT priority and without the clock."""
    flagged = screening is not None and screening.verdict is Verdict.FLAGGED
    if study.not_assessable_at is not None and study.state is StudyState.SCREENED:  # until another verdict
        return Band.ATTENTION, Reason.NOT_ASSESSABLE
    if study.state is StudyState.FAILED:  # a study flagged before keeps its place
        exhausted = study.failure_code == Reason.ATTEMPTS_EXHAUSTED
        reason = Reason.ATTEMPTS_EXHAUSTED if exhausted else Reason.UNEXPECTED_ERROR
        return Band.FLAGGED if flagged else Band.ATTENTION, reason
    if flagged:
        stale = study.state is not StudyState.SCREENED
        return Band.FLAGGED, study.asked_because if stale else Reason.AT_OR_ABOVE_THRESHOLD
    if study.conflict is not None:
        return Band.ATTENTION, study.conflict
    if study.state is not StudyState.SCREENED:
        if study.result_due_at <= now:
            return Band.ATTENTION, Reason.RESULT_LATE
        if screening is not None:  # the old verdict keeps its place until the new one is there
            return BAND_OF_VERDICT[screening.verdict], study.asked_because
        return Band.WAITING, Reason.AWAITING_RESULT
    assert screening is not None, "a SCREENED study has a screening"
    return BAND_OF_VERDICT[screening.verdict], screening.reason
