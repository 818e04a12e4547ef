"""Column types that are the same on every database, and the base class of the tables."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, BigInteger, Dialect, Enum, Integer, MetaData, SmallInteger, String, TypeDecorator
from sqlalchemy.orm import DeclarativeBase

from schema.types import UtcDateTime
from schema.vocabulary import (
    AuditAction,
    Band,
    DispatchKind,
    DispatchState,
    DriftEvent,
    FileState,
    IdentifierMode,
    ModelAction,
    Priority,
    Process,
    Reason,
    ReviewOutcome,
    Role,
    Stability,
    StudyState,
    Verdict,
)

#: Gives every constraint a name, so that migrations can find it on any database.
NAMING_CONVENTION = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

#: DICOM UIDs hold at most 64 characters (PS3.5 9.1).
Uid = String(64)
#: SHA-256, hexadecimal.
Digest = String(64)
#: SQLite increments a BIGINT key automatically only if it is declared as INTEGER.
RowId = BigInteger().with_variant(Integer, "sqlite")


class BandNumber(TypeDecorator[Band]):
    """A `Band`, stored as its number so that the worklist can sort by it."""

    impl = SmallInteger
    cache_ok = True

    def process_bind_param(self, value: Band | None, dialect: Dialect) -> int | None:  # noqa: ARG002
        """Store the number."""
        return None if value is None else int(value)

    def process_result_value(self, value: int | None, dialect: Dialect) -> Band | None:  # noqa: ARG002
        """Give the member."""
        return None if value is None else Band(value)


def by_value(enum: type[StrEnum]) -> Enum:
    """A column type that stores a StrEnum's *values* as text; by default SQLAlchemy stores names."""
    return Enum(
        enum,
        values_callable=lambda members: [str(m.value) for m in members],
        native_enum=False,
        create_constraint=False,
        validate_strings=True,
        length=32,
    )


class Base(DeclarativeBase):
    """Base class of the tables."""

    metadata = MetaData(naming_convention=NAMING_CONVENTION)
    type_annotation_map = {  # noqa: RUF012
        datetime: UtcDateTime,
        dict[str, Any]: JSON,
        list[str]: JSON,
        FileState: by_value(FileState),
        StudyState: by_value(StudyState),
        Verdict: by_value(Verdict),
        Reason: by_value(Reason),
        Priority: by_value(Priority),
        ReviewOutcome: by_value(ReviewOutcome),
        ModelAction: by_value(ModelAction),
        Stability: by_value(Stability),
        DriftEvent: by_value(DriftEvent),
        AuditAction: by_value(AuditAction),
        IdentifierMode: by_value(IdentifierMode),
        Role: by_value(Role),
        Process: by_value(Process),
        DispatchKind: by_value(DispatchKind),
        DispatchState: by_value(DispatchState),
        Band: BandNumber,
    }
