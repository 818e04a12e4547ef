"""The tables of studies, their files and their results. A column for a DICOM element is named by its keyword in
snake_case; enums are stored by value. The tables of the installation's operation are in `operations`.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, LargeBinary, String, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from schema.columns import Base as Base
from schema.columns import Digest, RowId, Uid
from schema.suffix_indexes import FILE_NAME, UID_END
from schema.vocabulary import (
    Band,
    FileState,
    Priority,
    Reason,
    ReviewOutcome,
    StudyState,
    Verdict,
)

#: The studies on the worklist. An index over all studies would be fifty times as large, and PostgreSQL would ignore it.
#: No index begins with `read_at` itself, because SQLite would prefer that one, and then sort.
UNREAD = text("read_at IS NULL")


class Study(Base):
    """One study: its identifiers, its state, and its place on the worklist."""

    __tablename__ = "study"

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    study_uid: Mapped[str] = mapped_column(Uid, unique=True)
    patient_id: Mapped[str | None] = mapped_column(Text, index=True)
    issuer_of_patient_id: Mapped[str | None] = mapped_column(Text)
    accession_number: Mapped[str | None] = mapped_column(Text, index=True)
    study_date: Mapped[str | None] = mapped_column(String(8))
    study_time: Mapped[str | None] = mapped_column(String(16))

    state: Mapped[StudyState]
    revision: Mapped[int]  #: increases whenever the study must be screened again
    priority: Mapped[Priority]
    conflict: Mapped[Reason | None]
    failure_code: Mapped[str | None] = mapped_column(String(64))
    failure_detail: Mapped[str | None] = mapped_column(Text)

    received_at: Mapped[datetime]
    asked_at: Mapped[datetime]  #: when it last had reason to be screened: arrival, new image, requeue
    asked_because: Mapped[Reason]  #: NEW_IMAGES or REQUEUED
    settles_at: Mapped[datetime]  #: when it may be offered, if no other image comes
    offered_at: Mapped[datetime | None]
    claim: Mapped[str | None] = mapped_column(String(64))  #: its owner, a dot, random digits
    lease_until: Mapped[datetime | None]
    attempts: Mapped[int]  #: claims without an outcome
    screened_at: Mapped[datetime | None]
    read_at: Mapped[datetime | None]  #: None: unread, so on the worklist
    not_assessable_at: Mapped[datetime | None]  #: when a reader found that its images do not allow a reading
    #: No foreign key, because screening has one to this table.
    current_screening_id: Mapped[int | None] = mapped_column(RowId)

    band: Mapped[Band]
    sort_key: Mapped[str] = mapped_column(String(32))  #: digits only, so that every collation sorts it alike
    reason: Mapped[Reason]  #: why it is in this band
    overdue_at: Mapped[datetime]  #: if unread after this moment, it moves to band 2
    result_due_at: Mapped[datetime]  #: if without a result after this moment, it moves to band 4

    series: Mapped[list["Series"]] = relationship(back_populates="study")

    __table_args__ = (
        Index("ix_study_unread", "band", "sort_key", "id", sqlite_where=UNREAD, postgresql_where=UNREAD),
        Index("ix_study_state", "state", "offered_at"),
        Index("ix_study_unread_overdue", "overdue_at", sqlite_where=UNREAD, postgresql_where=UNREAD),
        Index("ix_study_uid_end", text(UID_END)),
    )


class Series(Base):
    """One series of a study and the station that made it."""

    __tablename__ = "series"

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("study.id"), index=True)
    series_uid: Mapped[str] = mapped_column(Uid)
    modality: Mapped[str | None] = mapped_column(Text)
    manufacturer: Mapped[str | None] = mapped_column(Text)
    station_name: Mapped[str | None] = mapped_column(Text)
    device_serial_number: Mapped[str | None] = mapped_column(Text)

    study: Mapped[Study] = relationship(back_populates="series")
    instances: Mapped[list["Instance"]] = relationship(back_populates="series", order_by="Instance.id")

    # a hostile or broken sender may use one Series Instance UID in two studies
    __table_args__ = (UniqueConstraint("study_id", "series_uid"),)


class Instance(Base):
    """One received object. Two rows share a SOP Instance UID only when their pixels differ (a conflict)."""

    __tablename__ = "instance"

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    series_id: Mapped[int] = mapped_column(ForeignKey("series.id"), index=True)
    sop_instance_uid: Mapped[str] = mapped_column(Uid, index=True)
    digest: Mapped[str] = mapped_column(Digest, index=True)  #: of the file's bytes: its name in the store
    crc: Mapped[int | None] = mapped_column(BigInteger)  #: CRC-32 of the file, checked at every read
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    left_at: Mapped[str | None] = mapped_column(
        Text
    )  #: with inbox_mode=leave: path of the file; it is not in the store
    container: Mapped[str] = mapped_column(String(16))
    sop_class_uid: Mapped[str | None] = mapped_column(Uid)
    transfer_syntax_uid: Mapped[str | None] = mapped_column(Uid)
    modality: Mapped[str | None] = mapped_column(Text)
    body_part: Mapped[str | None] = mapped_column(Text)
    view: Mapped[str | None] = mapped_column(Text)
    photometric_interpretation: Mapped[str | None] = mapped_column(Text)
    age_years: Mapped[float | None]
    rows: Mapped[int]
    columns: Mapped[int]
    unreadable: Mapped[str | None] = mapped_column(String(64))  #: error code if it arrived damaged
    superseded: Mapped[bool]  #: arrived whole, or with a corrected header, later; no longer screened
    notes: Mapped[list[str]]
    received_at: Mapped[datetime]

    series: Mapped[Series] = relationship(back_populates="instances")

    __table_args__ = (UniqueConstraint("sop_instance_uid", "digest", "series_id"),)


class Arrival(Base):
    """One file that was seen, and its state. `path` is where it was first."""

    __tablename__ = "arrival"

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    path: Mapped[str] = mapped_column(Text, index=True)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    mtime_ns: Mapped[int] = mapped_column(BigInteger)
    state: Mapped[FileState] = mapped_column(index=True)
    code: Mapped[str | None] = mapped_column(String(64))
    message: Mapped[str | None] = mapped_column(Text)
    digest: Mapped[str | None] = mapped_column(Digest)
    in_store: Mapped[bool]
    priority: Mapped[Priority]
    seen_at: Mapped[datetime]
    changed_at: Mapped[datetime]  #: when its size or mtime was last seen to differ
    study_id: Mapped[int | None] = mapped_column(ForeignKey("study.id"), index=True)
    instance_id: Mapped[int | None] = mapped_column(ForeignKey("instance.id"))

    study: Mapped[Study | None] = relationship()
    instance: Mapped[Instance | None] = relationship()

    __table_args__ = (Index("ix_arrival_name", text(FILE_NAME)),)


class ModelVersion(Base):
    """A model that was registered or has given results, by the digest of its file."""

    __tablename__ = "model_version"

    digest: Mapped[str] = mapped_column(Digest, primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    recipe: Mapped[str] = mapped_column(Text)
    threshold: Mapped[float]
    card: Mapped[dict[str, Any]]
    first_used_at: Mapped[datetime]


class Screening(Base):
    """The verdict of one model on one revision of a study; never changed afterwards."""

    __tablename__ = "screening"

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("study.id"))
    revision: Mapped[int]
    model_digest: Mapped[str] = mapped_column(ForeignKey("model_version.digest"))
    verdict: Mapped[Verdict]
    reason: Mapped[Reason]
    detail: Mapped[str] = mapped_column(Text)
    probability: Mapped[float | None]
    threshold: Mapped[float]
    provider: Mapped[str] = mapped_column(String(64))
    deciding_finding: Mapped[int | None]  #: ordinal of that finding, from 0
    screened_at: Mapped[datetime]
    screened_on: Mapped[str] = mapped_column(String(10), index=True)  #: date in UTC, YYYY-MM-DD
    waited_s: Mapped[float]  #: from the study's last reason to screen it (arrival, new image, requeue) to this result
    worked_s: Mapped[float]  #: of work on this study, from its first byte to its verdict
    read_s: Mapped[float | None]  #: of these, fetching and parsing; None for a shadow, as is `decode_s`
    decode_s: Mapped[float | None]  #: decoding to display values
    predict_s: Mapped[float | None]  #: resizing and inference
    draw_s: Mapped[float | None]  #: drawing overlays and storing them
    batch_size: Mapped[int | None]  #: images in the largest batch given to the model
    shadow_of: Mapped[str | None] = mapped_column(
        Digest
    )  #: scored beside this active model; None: it was active itself

    findings: Mapped[list["Finding"]] = relationship(order_by="Finding.ordinal", back_populates="screening")

    __table_args__ = (UniqueConstraint("study_id", "revision", "model_digest"),)


class Finding(Base):
    """The result of a screening for one instance."""

    __tablename__ = "finding"

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    screening_id: Mapped[int] = mapped_column(ForeignKey("screening.id"), index=True)
    ordinal: Mapped[int]
    instance_id: Mapped[int] = mapped_column(ForeignKey("instance.id"), index=True)
    exclusion: Mapped[Reason | None]  #: why it was not screened
    unreadable: Mapped[str | None] = mapped_column(String(64))
    probability: Mapped[float | None]
    familiarity: Mapped[float | None]
    display_mean: Mapped[float | None]  #: of the model's grid, [0, 1], as the next two
    display_deviation: Mapped[float | None]
    dark_border: Mapped[float | None]  #: share of dark pixels in the frame
    heatmap: Mapped[bytes | None] = mapped_column(LargeBinary)  #: float16 little endian, row by row, [0, 1]
    heatmap_rows: Mapped[int | None]
    heatmap_columns: Mapped[int | None]
    overlay_digest: Mapped[str | None] = mapped_column(Digest)
    notes: Mapped[list[str]]

    screening: Mapped[Screening] = relationship(back_populates="findings")


class Review(Base):
    """A radiologist's verdict. Appended, never edited; the newest one counts."""

    __tablename__ = "review"

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("study.id"), index=True)
    screening_id: Mapped[int | None] = mapped_column(ForeignKey("screening.id"))  #: what the reader saw
    outcome: Mapped[ReviewOutcome]
    reader: Mapped[str] = mapped_column(Text)
    comment: Mapped[str | None] = mapped_column(Text)
    reviewed_at: Mapped[datetime]
    saw_probability: Mapped[bool | None]  #: before this verdict, as the next two; None: not known (`worker review`)
    saw_heatmap: Mapped[bool | None]
    saw_place: Mapped[bool | None]  #: its place on the list
    open_s: Mapped[float | None]  #: how long the study had been open on the page


class Withdrawal(Base):
    """A review taken back: it and the study's earlier ones no longer count. Appended, never edited."""

    __tablename__ = "withdrawal"

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("study.id"), index=True)
    review_id: Mapped[int] = mapped_column(RowId, unique=True)  #: the study's newest then; `review` refuses any change
    withdrawn_by: Mapped[str] = mapped_column(Text)
    reason: Mapped[str] = mapped_column(Text)
    withdrawn_at: Mapped[datetime]


class Prioritisation(Base):
    """Who gave a study which priority, and when. Appended, never edited."""

    __tablename__ = "prioritisation"

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("study.id"), index=True)
    priority: Mapped[Priority]
    given_by: Mapped[str] = mapped_column(Text)
    given_at: Mapped[datetime]
