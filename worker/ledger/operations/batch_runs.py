"""The rows of `worker batch`: when a run began, when it was due, how it ended."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, select, update

from schema.database import Database
from schema.operations import BatchRun
from schema.vocabulary import Reason
from worker.errors import DatabaseUnavailable, ScreeningError
from worker.ledger.clocks import now
from worker.ledger.transactions import writing

NEWEST = select(BatchRun.__table__).order_by(BatchRun.id.desc()).limit(1)


@dataclass
class RunSummary:
    """The numbers of a run at its end."""

    studies: int = 0
    without_result: int = 0
    remaining: int = 0


@contextmanager
def recorded(database: Database, due_at: datetime, clock: Callable[[], datetime] = now) -> Iterator[RunSummary]:
    """Keep a row for the run in this block: the summary that the block fills in, or the code of its error."""
    with writing(database) as session:
        run = BatchRun(began_at=clock(), due_at=due_at)
        session.add(run)
        session.flush()
        number = run.id
    summary = RunSummary()
    fault: str | None = Reason.UNEXPECTED_ERROR
    try:
        yield summary
        fault = None
    except ScreeningError as error:
        fault = error.code
        raise
    finally:
        # while the database is away the row gets no end, and the report shows that
        with suppress(DatabaseUnavailable), writing(database) as session:
            session.execute(
                update(BatchRun).where(BatchRun.id == number).values(ended_at=clock(), fault=fault, **vars(summary))
            )


def newest(connection: Connection) -> BatchRun | None:
    """The last run that began."""
    row = connection.execute(NEWEST).mappings().one_or_none()
    return None if row is None else BatchRun(**row)
