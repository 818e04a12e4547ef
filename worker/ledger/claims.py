"""Takes offered studies to their verdict: claim, heartbeat, record, fail, give back, and take back lapsed claims."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, CursorResult, select, update
from sqlalchemy.orm import Session

from schema import models
from schema.database import Database
from schema.vocabulary import Reason, StudyState
from worker.ledger import dispatches
from worker.ledger.ordering import current_screening, move, place
from worker.ledger.outbox import CLOCKS_DIFFER_S
from worker.ledger.results import ModelUse, Received, add_model, finding
from worker.ledger.transactions import retried, writing
from worker.runtime.state_folder import owner_of_claims
from worker.screening.rules import ImageOutcome, Screening
from worker.screening.timings import Times
from worker.settings import Settings

NOT_TIMED = Times()


@dataclass(frozen=True)
class Claim:
    """The right to screen one revision of a study until its lease lapses. The token begins with its owner and a dot."""

    study_uid: str
    token: str
    revision: int
    claimed_at: datetime
    received: tuple[Received, ...]


def claim(database: Database, study_uid: str, settings: Settings, now: datetime) -> Claim | None:
    """Claim a QUEUED study; None when it is not available (done, claimed by another, unknown). Counts the attempt."""
    token = f"{owner_of_claims(settings)}.{secrets.token_hex(16)}"
    with writing(database) as session:
        taken = session.execute(
            update(models.Study)
            .where(models.Study.study_uid == study_uid, models.Study.state == StudyState.QUEUED)
            .values(
                state=StudyState.SCREENING,
                claim=token,
                lease_until=now + timedelta(seconds=settings.lease_s),
                attempts=models.Study.attempts + 1,
            )
        )
        if _rows(taken) == 0:
            return None
        image = models.Instance
        rows = session.execute(
            select(models.Study.revision, image.id, image.digest, image.left_at, image.unreadable, image.crc)
            .outerjoin(models.Study.series)
            .outerjoin(models.Series.instances.and_(image.superseded.is_(False)))
            .where(models.Study.study_uid == study_uid)
            .order_by(image.id)
        ).all()
        received = tuple(Received(i.id, i.digest, i.left_at, i.unreadable, i.crc) for i in rows if i.id is not None)
        return Claim(study_uid, token, rows[0].revision, now, received)


def heartbeat(database: Database, tokens: Sequence[str], settings: Settings, now: datetime) -> None:
    """Extend the leases of these claims."""
    with writing(database) as session:
        session.execute(
            update(models.Study)
            .where(models.Study.claim.in_(tokens), models.Study.state == StudyState.SCREENING)
            .values(lease_until=now + timedelta(seconds=settings.lease_s))
        )


@retried  # two workers may be the first to use a model
def record(
    database: Database,
    held: Claim,
    judged: Screening,
    outcomes: Sequence[ImageOutcome],
    overlays: Sequence[str | None],
    model: ModelUse,
    now: datetime,
    shadow_of: str | None = None,
    times: Times = NOT_TIMED,
    settings: Settings | None = None,
) -> bool:
    """Write the verdict, if the claim still holds; False when a newer claim or a new image has replaced it.

    `outcomes` and `overlays` (store digests) are in the order of `held.received`. `shadow_of` is the digest of the
    active model that has judged these images: the verdict is then only stored, and the study does not move.
    `settings` say which result objects are to be sent; without them, none.
    """
    with writing(database) as session:
        study = _held(session, held) if shadow_of is None else _judged(session, held, shadow_of, model.digest)
        if study is None:
            return False
        if not session.scalars(select(models.ModelVersion.digest).filter_by(digest=model.digest)).all():
            add_model(session, model, now)
        row = models.Screening(
            study_id=study.id,
            revision=held.revision,
            model_digest=model.digest,
            verdict=judged.verdict,
            reason=judged.reason,
            detail=judged.detail,
            probability=judged.probability,
            threshold=model.card.operating_point.threshold,
            provider=model.provider,
            deciding_finding=judged.deciding,
            screened_at=now,
            screened_on=now.strftime("%Y-%m-%d"),
            waited_s=(now - study.asked_at).total_seconds(),
            worked_s=(now - held.claimed_at).total_seconds(),
            shadow_of=shadow_of,
            **vars(times),
        )
        row.findings = [
            finding(ordinal, received, outcome, overlay)
            for ordinal, (received, outcome, overlay) in enumerate(zip(held.received, outcomes, overlays, strict=True))
        ]
        session.add(row)
        if shadow_of is not None:
            return True
        session.flush()
        _release(study, StudyState.SCREENED)
        study.attempts, study.screened_at, study.current_screening_id = 0, now, row.id
        place(study, row, now)
        if settings is not None:
            dispatches.plan(session, study, row, settings, now)
        return True


def fail(
    database: Database, held: Claim, code: str, detail: str, now: datetime, settings: Settings | None = None
) -> bool:
    """End a claim without a verdict: the study is FAILED until `worker requeue`; False if the claim no longer holds.

    `settings`: as in `record`.
    """
    with writing(database) as session:
        study = _held(session, held)
        if study is None:
            return False
        _release(study, StudyState.FAILED)
        study.attempts, study.failure_code, study.failure_detail = 0, code, detail
        place(study, current_screening(session, study), now)
        if settings is not None:
            dispatches.plan(session, study, None, settings, now)
        return True


def give_back(database: Database, held: Claim, until: datetime) -> bool:
    """End a claim whose interruption is no fault of the study: it is QUEUED again, and the attempt does not count.

    `until`: when its message comes again; the sweep waits from then on.
    """
    with writing(database) as session:
        study = _held(session, held)
        if study is None:
            return False
        _release(study, StudyState.QUEUED)
        study.attempts = max(0, study.attempts - 1)
        study.offered_at = until
        return True


def heal(database: Database, settings: Settings, now: datetime) -> int:
    """Take back claims whose lease has lapsed; after `max_attempts` the study is FAILED. Returns how many.

    A lease that ends later than a new one would was written before the clock was set back, and counts as lapsed.
    """
    latest = now + timedelta(seconds=settings.lease_s + CLOCKS_DIFFER_S)
    lapsed = (models.Study.state == StudyState.SCREENING) & (
        (models.Study.lease_until < now) | (models.Study.lease_until > latest)
    )
    with writing(database) as session:
        return _take_back(session, lapsed, settings, now)


def recover(database: Database, settings: Settings, now: datetime) -> None:
    """Start again after the last process ended: this state folder has no claim, and its broker holds nothing.

    Only for the process that holds the lock of the state folder and has just started its private broker. Claims of
    other installations on the same database stand until their leases lapse; what they queued, until `reoffer` finds
    its message lost.
    """
    own = models.Study.claim.startswith(f"{owner_of_claims(settings)}.", autoescape=True)
    with writing(database) as session:
        _take_back(session, (models.Study.state == StudyState.SCREENING) & own, settings, now)
        if not settings.database:
            session.execute(update(models.Study).where(models.Study.state == StudyState.QUEUED).values(offered_at=None))


def _take_back(session: Session, which: ColumnElement[bool], settings: Settings, now: datetime) -> int:
    studies = session.scalars(select(models.Study).where(which).with_for_update(skip_locked=True)).all()
    for study in studies:
        exhausted = study.attempts >= settings.max_attempts
        _release(study, StudyState.FAILED if exhausted else StudyState.QUEUED)
        study.offered_at = None
        if exhausted:
            study.failure_code = Reason.ATTEMPTS_EXHAUSTED
            study.failure_detail = f"{study.attempts} workers died while they screened it"
            place(study, current_screening(session, study), now)
            dispatches.plan(session, study, None, settings, now)
    return len(studies)


def _release(study: models.Study, state: StudyState) -> None:
    move(study, state)
    study.claim = study.lease_until = None


def _held(session: Session, held: Claim) -> models.Study | None:
    """The study, if this claim still holds."""
    return session.scalars(
        select(models.Study)
        .where(models.Study.state == StudyState.SCREENING, models.Study.claim == held.token)
        .with_for_update()
    ).one_or_none()


def _judged(session: Session, held: Claim, active: str, shadow: str) -> models.Study | None:
    """The study, if the active model has judged this revision and the shadow has not."""
    study = session.scalars(select(models.Study).where(models.Study.study_uid == held.study_uid)).one()
    by = session.scalars(
        select(models.Screening.model_digest).where(
            models.Screening.study_id == study.id, models.Screening.revision == held.revision
        )
    ).all()
    return study if active in by and shadow not in by else None


def _rows(result: object) -> int:
    assert isinstance(result, CursorResult)
    return int(result.rowcount)
