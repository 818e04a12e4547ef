"""The rows of `worker batch`: when a run began, when it was due, how it ended."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, select, update

from schema.database import Database
from schema.models import BatchRun
from schema.vocabulary import Reason
from worker.errors import DatabaseUnavailable, ScreeningError
from worker.ledger.connect import now
from worker.ledger.transactions import writing

NEWEST = select(BatchRun.__table__).order_by(BatchRun.id.desc()).limit(1)


@dataclass
class Account:
    """What a run says of itself at its end."""

    studies: int = 0
    without_result: int = 0
    remaining: int = 0


@contextmanager
def recorded(database: Database, due_at: datetime, clock: Callable[[], datetime] = now) -> Iterator[Account]:
    """A row for the run that the block is: what it put into its account, or the code of what ended it."""
    with writing(database) as session:
        run = BatchRun(began_at=clock(), due_at=due_at)
        session.add(run)
        session.flush()
        number = run.id
    account = Account()
    fault: str | None = Reason.UNEXPECTED_ERROR
    try:
        yield account
        fault = None
    except ScreeningError as error:
        fault = error.code
        raise
    finally:
        with suppress(DatabaseUnavailable), writing(database) as session:  # then the row has no end, and that is told
            session.execute(
                update(BatchRun).where(BatchRun.id == number).values(ended_at=clock(), fault=fault, **vars(account))
            )


def newest(connection: Connection) -> BatchRun | None:
    """The last run that began."""
    row = connection.execute(NEWEST).mappings().one_or_none()
    return None if row is None else BatchRun(**row)
