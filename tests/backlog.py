"""Thousands of studies as rows without images, for tests of the queue."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from schema.vocabulary import Band, Priority, Reason, StudyState
from tests.ledger import STUDY

STUDIES = 10_000


def study_rows(count: int, now: datetime) -> Iterator[dict[str, Any]]:
    """Rows of `study`, settled, in order of age, numbered from 0."""
    for number in range(count):
        yield {
            "study_uid": f"{STUDY}.{number}", "state": StudyState.RECEIVED, "revision": 1, "attempts": 0,
            "priority": Priority.ROUTINE, "asked_because": Reason.NEW_IMAGES, "band": Band.WAITING,
            "sort_key": f"{number:021d}", "reason": Reason.AWAITING_RESULT,
            **dict.fromkeys(("received_at", "asked_at", "settles_at", "overdue_at", "result_due_at"), now),
        }  # fmt: skip
