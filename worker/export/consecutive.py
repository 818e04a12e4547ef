"""The studies whose verdicts may set a point: consecutive, and every one of them read.

Where only some of the studies were read, readers chose which, and a point that is set on these holds for no others.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import bindparam, text

from schema.database import Database
from schema.types import UtcDateTime
from schema.vocabulary import AuditAction, Reason, ReviewOutcome
from worker.ledger.transactions import reading

#: Every study with a probability, in the order of arrival, and its newest review, if there is one.
JUDGED = """
    SELECT study.study_uid, study.received_at, review.outcome, review.reviewed_at,
           EXISTS (SELECT 1 FROM withdrawal WHERE withdrawal.review_id = review.id) AS is_withdrawn,
           CASE WHEN review.saw_probability IS NOT NULL THEN review.saw_probability IS FALSE
               ELSE study.reason = :silent_run AND NOT EXISTS (
                   SELECT 1 FROM audit WHERE audit.study_uid = study.study_uid AND audit.deed = :shown
                   AND audit.happened_at <= review.reviewed_at
               )
           END AS is_blind
    FROM study
    JOIN screening ON screening.id = study.current_screening_id
    LEFT JOIN review ON review.id = (SELECT MAX(newest.id) FROM review AS newest WHERE newest.study_id = study.id)
    WHERE screening.probability IS NOT NULL AND study.received_at >= :since
    ORDER BY study.received_at, study.id
"""

#: Fewest studies of each kind with which verdicts given blindly are preferred to a longer stretch.
ENOUGH = {ReviewOutcome.NO_PNEUMONIA: 19, ReviewOutcome.PNEUMONIA: 2}


@dataclass(frozen=True)
class Judged:
    """One study with a probability and what a reader said of it."""

    study_uid: str
    received_at: datetime
    outcome: ReviewOutcome | None  #: None: unread, or the review was withdrawn
    is_blind: bool  #: known to be read before its score was seen: by the page, or in a silent run without `worker show`


@dataclass(frozen=True)
class Stretch:
    """Consecutive studies, every one of them read; and how many there are beside them."""

    studies: tuple[Judged, ...]
    unread: int  #: in the whole time, as is the next
    read_outside: int  #: before or after the stretch, parted from it by an unread study
    is_blind: bool  #: every verdict is known to have been given before the score was seen

    def count(self, outcome: ReviewOutcome) -> int:
        """How many studies of the stretch were read so."""
        return sum(study.outcome is outcome for study in self.studies)

    @property
    def known_blind(self) -> int:
        """Of how many studies it is known that they were read before the score was seen."""
        return sum(study.is_blind for study in self.studies)

    @property
    def says(self) -> str:
        """A summary in words."""
        if not self.studies:
            return f"no study was read; {self.unread} unread"
        first, last = self.studies[0].received_at, self.studies[-1].received_at
        unclear = self.count(ReviewOutcome.UNCERTAIN), self.count(ReviewOutcome.NOT_ASSESSABLE)
        blind = "all of them" if self.is_blind else f"{self.known_blind} are known to be"
        return (
            f"{len(self.studies)} consecutive studies, {first:%Y-%m-%d} to {last:%Y-%m-%d}, every one read:"
            f" {self.count(ReviewOutcome.PNEUMONIA)} with pneumonia, {self.count(ReviewOutcome.NO_PNEUMONIA)} without,"
            f" {unclear[0]} uncertain and {unclear[1]} not assessable (left out)."
            f" Not taken: {self.unread} unread studies, and {self.read_outside} read"
            f" ones that these part from the stretch. Verdicts given before the score was seen: {blind}"
        )


def consecutive(database: Database, since: datetime) -> Stretch:
    """The longest stretch of studies received since then; one of verdicts given blindly first, if it has ENOUGH."""
    statement = text(JUDGED).bindparams(bindparam("since", type_=UtcDateTime()))
    typed = statement.columns(received_at=UtcDateTime(), reviewed_at=UtcDateTime())
    asked = {"since": since, "silent_run": str(Reason.SILENT_RUN), "shown": str(AuditAction.SHOWN)}
    with reading(database) as connection:
        rows = connection.execute(typed, asked).all()
    studies = [
        Judged(
            row.study_uid,
            row.received_at,
            ReviewOutcome(row.outcome) if row.outcome and not row.is_withdrawn else None,
            bool(row.is_blind) and bool(row.outcome),
        )
        for row in rows
    ]
    return (
        _stretch(studies, lambda study: study.is_blind and study.outcome is not None, is_blind=True)
        or _stretch(studies, lambda study: study.outcome is not None, is_blind=False)
        or Stretch((), len(studies), 0, is_blind=False)
    )


def _stretch(studies: Sequence[Judged], is_usable: Callable[[Judged], bool], is_blind: bool) -> Stretch | None:
    """The longest run of usable studies, the latest of equals; None without one, or if too few were read blindly."""
    longest: list[Judged] = []
    run: list[Judged] = []
    for study in studies:
        if not is_usable(study):
            run = []
            continue
        run.append(study)
        longest = run if len(run) >= len(longest) else longest
    unread = sum(study.outcome is None for study in studies)
    found = Stretch(tuple(longest), unread, len(studies) - unread - len(longest), is_blind)
    lacks = is_blind and any(found.count(outcome) < least for outcome, least in ENOUGH.items())
    return None if not longest or lacks else found
