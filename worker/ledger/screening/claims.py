"""The claims of offered studies: claim, heartbeat, fail, give back, and take back those that have lapsed.

`verdicts` records what was found.
"""

import secrets
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial

from sqlalchemy import ColumnElement, bindparam, case, select, update
from sqlalchemy.orm import Session

from schema import models
from schema.database import Database
from schema.vocabulary import Reason, StudyState
from worker.ledger.clocks import CLOCKS_DIFFER_S
from worker.ledger.dispatch import dispatches
from worker.ledger.screening.results import Claim, Received
from worker.ledger.transactions import reading, together, writing, writing_rows
from worker.ledger.worklist.ordering import current_screening, move, place
from worker.runtime.state_folder import owner_of_claims
from worker.settings import Settings

#: Statements are built once, because building one takes longer than running it.
_GIVE_BACK = (
    update(models.Study)
    .where(
        models.Study.study_uid == bindparam("uid"),
        models.Study.claim == bindparam("token"),
        models.Study.state == StudyState.SCREENING,
    )
    .values(
        state=StudyState.QUEUED,
        claim=None,
        lease_until=None,
        attempts=case((models.Study.attempts > 0, models.Study.attempts - 1), else_=0),
        offered_at=bindparam("until"),
    )
)
_CLAIM = (
    update(models.Study)
    .where(models.Study.study_uid.in_(bindparam("uids", expanding=True)), models.Study.state == StudyState.QUEUED)
    .values(
        state=StudyState.SCREENING,
        claim=bindparam("token"),
        lease_until=bindparam("until"),
        attempts=models.Study.attempts + 1,
    )
)
_CLAIMED = (
    select(
        models.Study.study_uid, models.Study.revision, models.Instance.id, models.Instance.digest,
        models.Instance.left_at, models.Instance.unreadable, models.Instance.crc,
    )
    .outerjoin(models.Study.series)
    .outerjoin(models.Series.instances.and_(models.Instance.superseded.is_(False)))
    .where(
        models.Study.study_uid.in_(bindparam("uids", expanding=True)), models.Study.claim == bindparam("token")
    )
    .order_by(models.Study.id, models.Instance.id)
)  # fmt: skip

_RAISED = select(models.Study.study_uid).where(
    models.Study.study_uid.in_(bindparam("uids", expanding=True)),
    models.Study.claim.in_(bindparam("tokens", expanding=True)),
    models.Study.state == StudyState.SCREENING,
    models.Study.offered_at.is_(None),
)


def claim_all(
    database: Database, study_uids: Sequence[str], settings: Settings, clock: Callable[[], datetime]
) -> list[Claim | Exception | None]:
    """Claim QUEUED studies, each with one attempt more; None where one is not available (done, claimed by another,
    unknown), an error where the database refuses this one.

    `clock` is one for all machines, here and where leases are renewed and taken back: `database_now`.
    """
    return together(partial(_claim, database, settings, clock), study_uids)


def _claim(
    database: Database, settings: Settings, clock: Callable[[], datetime], study_uids: Sequence[str]
) -> list[Claim | None]:
    now = clock()
    token = f"{owner_of_claims(settings)}.{secrets.token_hex(16)}"
    with writing_rows(database) as connection:
        until = now + timedelta(seconds=settings.lease_s)
        taken = connection.execute(_CLAIM, {"uids": study_uids, "token": token, "until": until})
        if taken.rowcount == 0:
            return [None] * len(study_uids)
        rows = connection.execute(_CLAIMED, {"uids": study_uids, "token": token}).all()
    received = defaultdict[tuple[str, int], list[Received]](list)
    for study_uid, revision, key, digest, left_at, unreadable, crc in rows:
        of_study = received[study_uid, revision]
        if key is not None:  # else the study has no image
            of_study.append(Received(key, digest, left_at, unreadable, crc))
    claims = {uid: Claim(uid, token, revision, now, tuple(images)) for (uid, revision), images in received.items()}
    return [claims.pop(study_uid, None) for study_uid in study_uids]  # of a study named twice, the first gets the claim


def heartbeat(database: Database, tokens: Sequence[str], settings: Settings, now: datetime) -> None:
    """Extend the leases of these claims."""
    with writing(database) as session:
        session.execute(
            update(models.Study)
            .where(models.Study.claim.in_(tokens), models.Study.state == StudyState.SCREENING)
            .values(lease_until=now + timedelta(seconds=settings.lease_s))
        )


def fail(
    database: Database, claim: Claim, code: str, detail: str, now: datetime, settings: Settings | None = None
) -> bool:
    """End a claim without a verdict: the study is FAILED until `worker requeue`; False if the claim no longer holds.

    `settings` say whether the failure is to be sent; without them, it is not.
    """
    with writing(database) as session:
        study = _claimed_study(session, claim)
        if study is None:
            return False
        _release(study, StudyState.FAILED)
        study.attempts, study.failure_code, study.failure_detail = 0, code, detail
        place(study, current_screening(session, study), now)
        if settings is not None:
            dispatches.plan(session.connection(), study, None, settings, now)
        return True


def with_raised_priority(database: Database, held: Sequence[Claim]) -> list[Claim]:
    """Those of these claims on whose studies the priority has risen since they were offered."""
    with reading(database) as connection:
        asked = {"uids": [claim.study_uid for claim in held], "tokens": list({claim.token for claim in held})}
        uids = set(connection.scalars(_RAISED, asked))
    return [claim for claim in held if claim.study_uid in uids]


def give_back_all(database: Database, held: Sequence[Claim], until: datetime | None) -> None:
    """End claims whose interruption is no fault of the studies: they are QUEUED again, and the attempts do not count.

    `until`: when their message comes again; the sweep waits from then on. None: the sweep offers them at once. A claim
    that no longer holds is left.
    """
    with writing_rows(database) as connection:
        rows = [{"uid": claim.study_uid, "token": claim.token, "until": until} for claim in held]
        connection.execute(_GIVE_BACK, rows)


def take_back_lapsed(database: Database, settings: Settings, now: datetime) -> int:
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
            dispatches.plan(session.connection(), study, None, settings, now)
    return len(studies)


def _release(study: models.Study, state: StudyState) -> None:
    move(study, state)
    study.claim = study.lease_until = None


def _claimed_study(session: Session, claim: Claim) -> models.Study | None:
    """The study, if this claim still holds."""
    return session.scalars(
        select(models.Study)
        .where(
            models.Study.study_uid == claim.study_uid,
            models.Study.claim == claim.token,
            models.Study.state == StudyState.SCREENING,
        )
        .with_for_update()
    ).one_or_none()
