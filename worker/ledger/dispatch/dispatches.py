"""The result objects for archives: written with the verdict, taken by the sender, ended with the archive's answer.

When one is tried again: `retry_schedule`.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID, uuid5

from sqlalchemy import ColumnElement, Connection, case, func, insert, literal, or_, select, update
from sqlalchemy.orm import aliased

from schema import models
from schema.database import Database
from schema.operations import Dispatch
from schema.setting_values import Retract, SendVerdicts, Silent
from schema.types import UtcDateTime
from schema.vocabulary import DispatchKind, DispatchState, Verdict
from worker.ledger.clocks import CLOCKS_DIFFER_S
from worker.ledger.dispatch.retry_schedule import ATTEMPTS_TO_LONGEST, GIVE_UP_AFTER, LONGEST_WAIT, wait_after
from worker.ledger.transactions import reading, writing
from worker.ledger.worklist.ordering import StudyRow
from worker.settings import Settings

#: Namespace of every UID that this program derives (PS3.5 B.2).
NAMESPACE = UUID("5f0d2a3e-6e6b-5a53-9c55-0f6a4d7e2b11")

#: Objects that are taken at once.
BATCH = 50

#: Verdicts that are sent. INELIGIBLE is none: the study holds no chest radiograph.
SENT_VERDICTS = {
    SendVerdicts.FLAGGED: frozenset({Verdict.FLAGGED}),
    SendVerdicts.SCREENED: frozenset({Verdict.FLAGGED, Verdict.NOT_FLAGGED, Verdict.UNSCREENABLE}),
}


@dataclass(frozen=True)
class Sending:
    """What is sent where, as the settings say."""

    destination: str
    kinds: tuple[DispatchKind, ...]
    verdicts: SendVerdicts
    retracts: bool

    @classmethod
    def of(cls, settings: Settings) -> "Sending | None":
        """None: nothing is sent. In a silent run nobody outside may see a verdict."""
        if not settings.send or settings.silent is Silent.ON:
            return None
        kinds = tuple(DispatchKind(kind) for kind in settings.results.split(","))
        return cls(settings.send, kinds, settings.send_verdicts, settings.retract is Retract.IOCM)


@dataclass(frozen=True)
class Due:
    """An object that was taken to be sent."""

    id: int
    study_id: int
    study_uid: str
    screening_id: int | None
    revision: int
    kind: DispatchKind
    destination: str
    sop_instance_uid: str
    reason: str | None
    attempts: int
    created_at: datetime


@dataclass(frozen=True)
class SentObject:
    """An object of an earlier revision that the archive holds."""

    kind: DispatchKind
    sop_instance_uid: str
    sop_class_uid: str
    series_uid: str


def result_uid(study_uid: str, revision: int, model_digest: str, kind: str) -> str:
    """The UID of an object, the same whenever it is made again."""
    return f"2.25.{uuid5(NAMESPACE, f'{study_uid} {revision} {model_digest} {kind}').int}"


def series_uid(study_uid: str, revision: int, model_digest: str, kind: str) -> str:
    """The UID of the series of an object: each has its own."""
    return result_uid(study_uid, revision, model_digest, f"{kind} series")


@dataclass(frozen=True)
class RecordedVerdict:
    """A verdict that was recorded."""

    screening_id: int
    model_digest: str
    verdict: Verdict


def plan(
    connection: Connection,
    study: models.Study | StudyRow,
    recorded: RecordedVerdict | None,
    settings: Settings,
    now: datetime,
) -> None:
    """Add the objects of a verdict, or of a failure, in the transaction that records it.

    A result that replaces one that was to be sent is sent whatever its verdict: the archive would show the old one.
    Rasters have no patient and derived UIDs: nothing of them is sent.
    """
    sending = Sending.of(settings)
    if sending is None or not _is_dicom(connection, study.id):
        return
    replaces = _has_any(connection, study.id, sending.destination)
    if not replaces and not _is_sent(study.conflict is not None, recorded, sending):
        return
    if recorded is None:
        reason, screening_id, digest = study.failure_code, None, ""
    else:
        reason = None if study.conflict is None else str(study.conflict)
        screening_id, digest = recorded.screening_id, recorded.model_digest
    kinds = [DispatchKind.RETRACTION] if sending.retracts and replaces else []
    kinds += [kind for kind in sending.kinds if kind is DispatchKind.REPORT or reason is None]
    for kind in kinds:
        uid = result_uid(study.study_uid, study.revision, digest, kind)
        known = select(Dispatch.id).where(Dispatch.sop_instance_uid == uid, Dispatch.destination == sending.destination)
        if connection.scalars(known).first() is None:
            row = {
                "study_id": study.id, "screening_id": screening_id, "revision": study.revision, "kind": kind,
                "destination": sending.destination, "sop_instance_uid": uid, "reason": reason,
                "state": DispatchState.DUE, "attempts": 0, "next_try_at": now, "created_at": now,
            }  # fmt: skip
            connection.execute(insert(Dispatch), [row])


def _has_any(connection: Connection, study_id: int, destination: str) -> bool:
    """Whether there is an object of an earlier result for this destination."""
    earlier_ones = select(Dispatch.id).where(Dispatch.study_id == study_id, Dispatch.destination == destination)
    return connection.scalars(earlier_ones.limit(1)).first() is not None


def _is_sent(is_conflict: bool, recorded: RecordedVerdict | None, sending: Sending) -> bool:
    """Whether a result is sent. A failed study and a conflict always are: without a report they would look normal."""
    return is_conflict or recorded is None or recorded.verdict in SENT_VERDICTS[sending.verdicts]


def _is_dicom(connection: Connection, study_id: int) -> bool:
    received = (
        select(models.Instance.id)
        .join(models.Series)
        .where(models.Series.study_id == study_id, models.Instance.container == "dicom")
    )
    return connection.scalars(received.limit(1)).first() is not None


def take(database: Database, destination: str, now: datetime) -> list[Due]:
    """Take the objects that are due for a destination; this counts as an attempt of each.

    An object that is not ended (`end`) is due again later. The objects of one study are taken in their order, because a
    report names only earlier ones that the archive has. One that would wait longer than its attempts require was
    written before the clock was set back, and is due.
    """
    older = aliased(Dispatch)
    waits = (
        select(older.id)
        .where(
            older.study_id == Dispatch.study_id, older.destination == Dispatch.destination,
            older.state == DispatchState.DUE, older.id < Dispatch.id,
        )
        .exists()
    )  # fmt: skip
    turn = (
        select(Dispatch, models.Study.study_uid)
        .join(models.Study, models.Study.id == Dispatch.study_id)
        .where(
            Dispatch.state == DispatchState.DUE,
            Dispatch.destination == destination,
            or_(Dispatch.next_try_at <= now, _is_set_back(now)),
            ~waits,
        )
        .order_by(Dispatch.next_try_at, Dispatch.id)
        .limit(BATCH)
        .with_for_update(skip_locked=True, of=Dispatch)
    )
    with writing(database) as session:
        taken = []
        for row, study_uid in session.execute(turn).all():
            row.attempts += 1
            row.next_try_at = now + wait_after(row.attempts)
            taken.append(
                Due(
                    row.id, row.study_id, study_uid, row.screening_id, row.revision, row.kind, row.destination,
                    row.sop_instance_uid, row.reason, row.attempts, row.created_at,
                )
            )  # fmt: skip
        return taken


def _is_set_back(now: datetime) -> ColumnElement[bool]:
    """Whether an object waits longer than it ever would by this clock."""
    latest = now + timedelta(seconds=CLOCKS_DIFFER_S)
    ends = {tries: literal(latest + wait_after(tries), UtcDateTime) for tries in range(ATTEMPTS_TO_LONGEST)}
    return Dispatch.next_try_at > case(ends, value=Dispatch.attempts, else_=literal(latest + LONGEST_WAIT, UtcDateTime))


def end(
    database: Database, due: Due, state: DispatchState, answer: str, now: datetime, sop_class_uid: str | None = None
) -> None:
    """Record the outcome of an attempt. DUE: it failed for now; after GIVE_UP_AFTER it is given up."""
    if state is DispatchState.DUE and now - due.created_at >= GIVE_UP_AFTER:
        state = DispatchState.GIVEN_UP
    with writing(database) as session:
        session.execute(
            update(Dispatch)
            .where(Dispatch.id == due.id, Dispatch.state == DispatchState.DUE)
            .values(
                state=state, answer=answer[:200], sop_class_uid=sop_class_uid,
                ended_at=None if state is DispatchState.DUE else now,
            )
        )  # fmt: skip


def earlier(database: Database, due: Due) -> list[SentObject]:
    """The reports and overlays of earlier results of a study that the archive has accepted, the oldest first."""
    with reading(database) as connection:
        rows = connection.execute(
            select(
                Dispatch.kind, Dispatch.sop_instance_uid, Dispatch.sop_class_uid, Dispatch.revision,
                func.coalesce(models.Screening.model_digest, ""),
            )
            .outerjoin(models.Screening, models.Screening.id == Dispatch.screening_id)
            .where(
                Dispatch.study_id == due.study_id, Dispatch.destination == due.destination, Dispatch.id < due.id,
                Dispatch.state == DispatchState.SENT, Dispatch.kind != DispatchKind.RETRACTION,
                (Dispatch.revision != due.revision) | Dispatch.screening_id.is_distinct_from(due.screening_id),
            )
            .order_by(Dispatch.id)
        )  # fmt: skip
        return [
            SentObject(kind, uid, str(sop_class), series_uid(due.study_uid, revision, digest, kind))
            for kind, uid, sop_class, revision, digest in rows
        ]
