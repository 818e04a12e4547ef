"""Bytes that the store had lost or held damaged, and holds again: their studies are screened again."""

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from schema.models import Instance, Series, Study
from schema.vocabulary import Reason, StudyState
from worker.ledger.retention import is_pruned
from worker.ledger.worklist.ordering import request_screening_again
from worker.settings import Settings

#: Added to the message of the file that brought them.
RESTORED = "; the store had lost them or held them damaged: they are restored, and the study is screened again"

#: The worker that claims a study in one of these states finds the bytes.
TO_BE_CLAIMED = (StudyState.RECEIVED, StudyState.QUEUED)


def screen_again(session: Session, digest: str, settings: Settings, now: datetime) -> bool:
    """Have the studies screened again that have an image of this digest in the store; False when there is none.

    Pruned studies are left: their bytes are gone because they were read.
    """
    holding = select(Series.study_id).join(Instance).where(
        Instance.digest == digest, Instance.left_at.is_(None), Instance.superseded.is_(False)
    )  # fmt: skip
    studies = session.scalars(select(Study).where(Study.id.in_(holding)).with_for_update()).all()
    lost = [study for study in studies if not is_pruned(session, study.id)]
    for study in lost:
        if study.state not in TO_BE_CLAIMED:
            request_screening_again(session, study, Reason.REQUEUED, settings, now)
    return bool(lost)
