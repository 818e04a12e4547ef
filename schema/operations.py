"""The tables of the installation's operation: decisions about models, drift, batch runs, audit, identifiers.

What belongs to a study is in `models`.
"""

from datetime import datetime

from sqlalchemy import ForeignKey, Index, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from schema.columns import Base as Base
from schema.columns import Digest, RowId, Uid
from schema.models import ModelVersion, Screening, Study
from schema.vocabulary import (
    AuditAction,
    DispatchKind,
    DispatchState,
    DriftEvent,
    IdentifierMode,
    ModelAction,
    Process,
    Stability,
)


class Promotion(Base):
    """What was done with a model, by whom and why. Appended, never edited; the rows determine which model serves."""

    __tablename__ = "promotion"

    #: Numbered by the ledger, so that of two decisions at the same time the second sees the first.
    id: Mapped[int] = mapped_column(RowId, primary_key=True, autoincrement=False)
    digest: Mapped[str] = mapped_column(ForeignKey(ModelVersion.digest))
    action: Mapped[ModelAction]
    comparison_digest: Mapped[str | None] = mapped_column(Digest)  #: of the comparison.json that was used
    reason: Mapped[str | None] = mapped_column(Text)
    decided_by: Mapped[str] = mapped_column(Text)
    decided_at: Mapped[datetime]


class PresentedComparison(Base):
    """A comparison that was given to `promote`, whether the model was promoted or not. Appended, never edited."""

    __tablename__ = "presented_comparison"

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    comparison_digest: Mapped[str] = mapped_column(Digest)  #: of the comparison.json in the store
    model_digest: Mapped[str] = mapped_column(Digest, index=True)  #: the new model; it may have no row of its own
    model_name: Mapped[str] = mapped_column(Text)
    against_digest: Mapped[str] = mapped_column(Digest)  #: the old model
    is_accepted: Mapped[bool]
    says: Mapped[str] = mapped_column(Text)  #: the numbers compared with the margins, or why it was refused
    presented_by: Mapped[str] = mapped_column(Text)
    presented_at: Mapped[datetime]


class Drift(Base):
    """One measure of one scanner's images at one evaluation. Appended, never edited."""

    __tablename__ = "drift"

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    evaluation: Mapped[int]  #: numbered by the ledger, so that of two at the same time the second sees the first
    judged_at: Mapped[datetime]
    model_digest: Mapped[str] = mapped_column(ForeignKey(ModelVersion.digest))
    manufacturer: Mapped[str] = mapped_column(String(32))
    station: Mapped[str] = mapped_column(String(32))  #: Station Name, else Device Serial Number
    view: Mapped[str] = mapped_column(String(32))
    measure: Mapped[str] = mapped_column(String(32))
    images: Mapped[int]
    value: Mapped[float]  #: PSI beyond chance; for `flag_rate`, the rate of the last night
    low: Mapped[float | None]  #: limits of `value`
    high: Mapped[float]
    status: Mapped[Stability]
    event: Mapped[DriftEvent | None]  #: None: as it was before

    __table_args__ = (
        UniqueConstraint(
            "evaluation", "model_digest", "manufacturer", "station", "view", "measure", name="uq_drift_evaluation"
        ),  # the name by the convention would be too long for PostgreSQL
        Index("ix_drift_judged", "judged_at"),
    )


class BatchRun(Base):
    """One run of `worker batch`. Without an end, it is still running or was killed."""

    __tablename__ = "batch_run"

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    began_at: Mapped[datetime]
    due_at: Mapped[datetime]  #: the end of its window
    ended_at: Mapped[datetime | None]
    studies: Mapped[int | None]  #: number of studies that it took
    without_result: Mapped[int | None]  #: of these, without a result
    remaining: Mapped[int | None]  #: files or studies left for the next run
    fault: Mapped[str | None] = mapped_column(String(64))  #: code of the error that ended it early


class DeviceFailure(Base):
    """The inference device of a worker failed, and its process ended. At most one row a minute for each worker."""

    __tablename__ = "device_failure"

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    failed_at: Mapped[datetime] = mapped_column(index=True)
    worker: Mapped[str] = mapped_column(Text)  #: worker@host
    code: Mapped[str] = mapped_column(String(64))
    message: Mapped[str] = mapped_column(Text)


class SignOfLife(Base):
    """When a process of this kind was last seen alive on a machine; written every 15 s, beside its work."""

    __tablename__ = "sign_of_life"

    process: Mapped[Process] = mapped_column(primary_key=True)
    host: Mapped[str] = mapped_column(String(64), primary_key=True)
    seen_at: Mapped[datetime]


class InboxWatcher(Base):
    """A watcher of an inbox that others may watch too. The one that deletes a lapsed row may take its shares."""

    __tablename__ = "inbox_watcher"

    inbox: Mapped[str] = mapped_column(Text, primary_key=True)  #: its path, as the paths of arrivals
    holder: Mapped[str] = mapped_column(String(32), primary_key=True)  #: random, another one each time it joins
    host: Mapped[str] = mapped_column(String(64))
    pid: Mapped[int]  #: 0: it has left, at `lease_until`
    pid_space: Mapped[str] = mapped_column(String(16))  #: in which `pid` names a process; empty: not known
    lease_until: Mapped[datetime]


class InboxShare(Base):
    """Who takes in the files of a share of an inbox's folders: one row for each of its shares."""

    __tablename__ = "inbox_share"

    inbox: Mapped[str] = mapped_column(Text, primary_key=True)
    share: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    holder: Mapped[str | None] = mapped_column(String(32))  #: free if no watcher of this name has a row


class Dispatch(Base):
    """A result object for an archive: one row for each result, kind and destination."""

    __tablename__ = "dispatch"

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey(Study.id), index=True)
    screening_id: Mapped[int | None] = mapped_column(ForeignKey(Screening.id))  #: None: the study is FAILED
    revision: Mapped[int]
    kind: Mapped[DispatchKind]
    destination: Mapped[str] = mapped_column(Text)  #: AE@HOST:PORT, or a folder
    sop_instance_uid: Mapped[str] = mapped_column(Uid)  #: derived: sent twice, it is the same object
    sop_class_uid: Mapped[str | None] = mapped_column(Uid)  #: known when it was sent
    reason: Mapped[str | None] = mapped_column(String(64))  #: without a verdict: why the study could not be screened
    state: Mapped[DispatchState]
    attempts: Mapped[int]
    next_try_at: Mapped[datetime]
    created_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    answer: Mapped[str | None] = mapped_column(String(200))  #: the last answer or fault, in our words

    __table_args__ = (
        UniqueConstraint("sop_instance_uid", "destination"),
        Index("ix_dispatch_state", "state", "next_try_at"),
    )


class Audit(Base):
    """Who did what, if no other table records it. Appended; triggers refuse any change."""

    __tablename__ = "audit"

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    happened_at: Mapped[datetime] = mapped_column(index=True)
    who: Mapped[str] = mapped_column(Text)  #: the given name, else the account
    account: Mapped[str] = mapped_column(Text)  #: of the operating system
    deed: Mapped[AuditAction]
    study_uid: Mapped[str | None] = mapped_column(Uid, index=True)
    subject: Mapped[str | None] = mapped_column(Text)  #: the object of the action, if it is not a study
    detail: Mapped[str | None] = mapped_column(Text)


class Identifiers(Base):
    """How this database stores what identifies a patient; one row, written at the first use."""

    __tablename__ = "identifiers"

    id: Mapped[int] = mapped_column(RowId, primary_key=True, autoincrement=False)
    kept_as: Mapped[IdentifierMode]
    key_check: Mapped[str | None] = mapped_column(Digest)  #: identifies the key of the pseudonyms
    since: Mapped[datetime]
