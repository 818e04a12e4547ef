"""The rows of failed inference devices: which worker, when, and what it said."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, func, select

from schema.database import Database
from schema.operations import DeviceFailure
from worker.errors import ScreeningError
from worker.ledger.transactions import reading, writing

#: A worker whose device stays dead is recorded once in this time: its processes end and begin again every few seconds.
RECORDED_ONCE = timedelta(minutes=1)


@dataclass(frozen=True)
class Failure:
    """The newest failure of a worker's device."""

    worker: str
    failed_at: datetime
    message: str


def record(database: Database, worker: str, error: ScreeningError, now: datetime) -> None:
    """Append a row, unless this worker has one of the last minute."""
    recent = select(DeviceFailure.id).where(
        DeviceFailure.worker == worker, DeviceFailure.failed_at > now - RECORDED_ONCE, DeviceFailure.failed_at <= now
    )
    with writing(database) as session:
        if session.scalars(recent.limit(1)).first() is None:
            session.add(DeviceFailure(failed_at=now, worker=worker, code=error.code, message=error.message))


def count(connection: Connection) -> int:
    """How many rows there are."""
    return int(connection.execute(select(func.count(DeviceFailure.id))).scalar_one())


def latest(database: Database, since: datetime) -> Failure | None:
    """The newest failure after that moment."""
    table = DeviceFailure.__table__
    statement = select(table.c.worker, table.c.failed_at, table.c.message).where(table.c.failed_at > since)
    with reading(database) as connection:
        row = connection.execute(statement.order_by(table.c.failed_at.desc()).limit(1)).one_or_none()
    return None if row is None else Failure(*row)
