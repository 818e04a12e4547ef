"""Decides which bytes the store need not keep: of studies read long ago, and of files that can never be read. Rows and
verdicts stay."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, exists, func, select, update
from sqlalchemy.orm import Session

from schema.database import Database, in_lists
from schema.models import Arrival, Finding, Instance, Screening, Series, Study
from schema.vocabulary import FileState, StudyState
from worker.ledger.transactions import reading, writing

#: States in which no worker uses a study's bytes. A failed study stays on the worklist until it is read, like others.
ENDED = (StudyState.SCREENED, StudyState.FAILED)


@dataclass(frozen=True)
class Prunable:
    """A read study whose bytes are in the store."""

    study_id: int
    size_bytes: int  #: of its objects; overlays are not counted


def prunable(database: Database, read_before: datetime) -> list[Prunable]:
    """Studies that were read before this moment and have ended; the one read the longest ago comes first."""
    with reading(database) as connection:
        rows = connection.execute(
            select(Study.id, func.sum(Arrival.size_bytes))
            .join(Arrival, Arrival.study_id == Study.id)
            .where(_has_ended(), Study.read_at < read_before, Arrival.in_store.is_(True))
            .group_by(Study.id, Study.read_at)
            .order_by(Study.read_at, Study.id)
        )
        return [Prunable(study_id, int(size)) for study_id, size in rows]


def release(database: Database, study_ids: Sequence[int]) -> int:
    """Mark the bytes of these studies as not kept, in chunks, except studies that became unread again; returns how many
    studies."""
    released = 0
    for some_ids in in_lists(study_ids):
        with writing(database) as session:
            chosen = select(Study.id).where(Study.id.in_(some_ids), _has_ended())
            ids = session.scalars(chosen.with_for_update()).all()
            session.execute(update(Arrival).where(Arrival.study_id.in_(ids)).values(in_store=False))
            screenings = select(Screening.id).where(Screening.study_id.in_(ids))
            session.execute(update(Finding).where(Finding.screening_id.in_(screenings)).values(overlay_digest=None))
            released += len(ids)
    return released


def release_quarantined(database: Database, seen_before: datetime) -> int:
    """Mark the bytes of quarantined files without a study, seen before this moment, as not kept; returns how many."""
    with writing(database) as session:
        which = (Arrival.state == FileState.QUARANTINED) & Arrival.study_id.is_(None) & Arrival.in_store
        found = session.scalars(select(Arrival.id).where(which, Arrival.seen_at < seen_before)).all()
        for ids in in_lists(found):
            session.execute(update(Arrival).where(Arrival.id.in_(ids)).values(in_store=False))
        return len(found)


def claimed(database: Database) -> tuple[set[str], set[str]]:
    """Digests of the objects and of the overlays that, by the rows, are in the store."""
    with reading(database) as connection:
        objects = connection.execute(select(Arrival.digest).where(Arrival.in_store.is_(True)).distinct())
        overlays = connection.execute(select(Finding.overlay_digest).distinct())
        return {d for (d,) in objects if d is not None}, {d for (d,) in overlays if d is not None}


def is_pruned(session: Session, study_id: int) -> bool:
    """Whether the bytes of at least one image of a study are gone, so that it cannot be screened again."""
    kept = exists().where(Arrival.digest == Instance.digest, Arrival.in_store.is_(True))
    gone = (
        select(Instance.id)
        .join(Series)
        .where(Series.study_id == study_id, Instance.left_at.is_(None), Instance.superseded.is_(False), ~kept)
    )
    return session.scalars(gone.limit(1)).first() is not None


def _has_ended() -> ColumnElement[bool]:
    return Study.read_at.is_not(None) & Study.state.in_(ENDED)
