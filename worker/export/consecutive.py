"""The studies whose verdicts may set a point: consecutive, and every one of them read.

Where only some of the studies were read, readers chose which, and a point that is set on these holds for no others.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, bindparam, text

from schema.database import Database
from schema.types import UtcDateTime
from schema.vocabulary import ReviewOutcome
from worker.export import unseen_verdicts
from worker.ledger.transactions import reading

#: Every study with a probability, in the order of arrival, with its newest review and the newest one given unseen.
JUDGED = f"""
    SELECT study.study_uid, study.received_at,
           CASE WHEN NOT {unseen_verdicts.WITHDRAWN.format(review="review")} THEN review.outcome END AS outcome,
           CASE WHEN NOT {unseen_verdicts.WITHDRAWN.format(review="blind")} THEN blind.outcome END AS blind_outcome,
           review.id = blind.id AS is_blind
    FROM study
    JOIN screening ON screening.id = study.current_screening_id
    LEFT JOIN review ON review.id = {unseen_verdicts.NEWEST}
    LEFT JOIN review AS blind ON blind.id = {unseen_verdicts.NEWEST_UNSEEN}
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
    is_blind: bool  #: this reading is known to have been given before its score was seen


@dataclass(frozen=True)
class Stretch:
    """Consecutive studies, every one of them read; and how many there are beside them."""

    studies: tuple[Judged, ...]
    unread: int  #: in the whole time, as is the next
    read_outside: int  #: before or after the stretch, and beyond the study at which it ends
    is_blind: bool  #: every verdict is known to have been given before the score was seen

    def count(self, outcome: ReviewOutcome) -> int:
        """How many studies of the stretch were read so."""
        return sum(study.outcome is outcome for study in self.studies)

    @property
    def known_blind(self) -> int:
        """Of how many studies it is known that they were read before the score was seen."""
        return sum(study.is_blind for study in self.studies)

    @property
    def _end(self) -> str:
        """Before and after which study a stretch ends."""
        return "a study that was unread, or shown before it was read" if self.is_blind else "an unread study"

    @property
    def says(self) -> str:
        """A summary in words."""
        if not self.studies:
            return f"no study was read; {self.unread} unread"
        first, last = self.studies[0].received_at, self.studies[-1].received_at
        unclear = self.count(ReviewOutcome.UNCERTAIN), self.count(ReviewOutcome.NOT_ASSESSABLE)
        unread = f"{self.unread} unread {'study' if self.unread == 1 else 'studies'}"
        blind = "all of them" if self.is_blind else f"{self.known_blind} are known to be"
        return (
            f"{len(self.studies)} consecutive studies, {first:%Y-%m-%d} to {last:%Y-%m-%d}, every one read:"
            f" {self.count(ReviewOutcome.PNEUMONIA)} with pneumonia, {self.count(ReviewOutcome.NO_PNEUMONIA)} without,"
            f" {unclear[0]} uncertain and {unclear[1]} not assessable (left out)."
            f" Not taken: {unread}, and {self.read_outside} read outside of this stretch, which ends at {self._end}."
            f" Verdicts given before the score was seen: {blind}"
        )


def consecutive(database: Database, since: datetime) -> Stretch:
    """The longest stretch of studies received since then; one of verdicts given blindly first, if it has ENOUGH."""
    statement = text(JUDGED).bindparams(bindparam("since", type_=UtcDateTime()))
    with reading(database) as connection:
        typed = statement.columns(received_at=UtcDateTime())
        rows = connection.execute(typed, {"since": since, **unseen_verdicts.VALUES}).all()
    blind = [_judged(row, row.blind_outcome, is_blind=True) for row in rows]
    newest = [_judged(row, row.outcome, is_blind=bool(row.is_blind)) for row in rows]
    read = sum(study.outcome is not None for study in newest)
    return (
        _stretch(blind, read, is_blind=True)
        or _stretch(newest, read, is_blind=False)
        or Stretch((), len(rows), 0, is_blind=False)
    )


def _judged(row: Row[Any], outcome: str | None, *, is_blind: bool) -> Judged:
    return Judged(
        row.study_uid, row.received_at, ReviewOutcome(outcome) if outcome else None, is_blind and bool(outcome)
    )


def _stretch(studies: Sequence[Judged], read: int, *, is_blind: bool) -> Stretch | None:
    """The longest run of read studies, the latest of equals; None without one, or if too few were read blindly.

    `read`: how many of the studies were read, blindly or not.
    """
    longest: list[Judged] = []
    run: list[Judged] = []
    for study in studies:
        if study.outcome is None:
            run = []
            continue
        run.append(study)
        longest = run if len(run) >= len(longest) else longest
    found = Stretch(tuple(longest), len(studies) - read, read - len(longest), is_blind)
    lacks = is_blind and any(found.count(outcome) < least for outcome, least in ENOUGH.items())
    return None if not longest or lacks else found
