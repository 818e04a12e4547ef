"""One transaction with the database; its errors become this program's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, ParamSpec, TypeAlias, TypeVar

from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    IntegrityError,
    NotSupportedError,
    ProgrammingError,
)

from schema.database import Database
from worker.errors import DatabaseUnavailable, SchemaOutdated, ScreeningError
from worker.runtime.boundary import result_or_error

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.orm import Session

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

#: Called in a transaction before it writes: raises when this process may not write any more.
Guard: TypeAlias = Callable[["Connection"], None]

#: Two writers may insert the same new row at the same time; the one that fails sees the row at its second try.
TRIES = 3

#: SQLite's messages for a missing table or column; PostgreSQL has its own error for it.
MISSING = ("no such table", "no such column", "has no column")

_RESTORE = "stop the program and restore it from a backup (deploy/RUNBOOK.md, Back up and restore)"

STANDBY = "it is a standby, or was set read-only: name the one that is written to in SCREENING_DATABASE"
NO_RIGHT = "let the account of SCREENING_DATABASE own the tables, or grant it all on them and their sequences"
NO_ENTRY = "grant the account of SCREENING_DATABASE the right CONNECT on it"

#: PostgreSQL's code for a right that the account lacks.
LACKS_RIGHT = "42501"

#: Messages of a database that does not come back by itself, and the remedies.
REMEDIES = {
    "in a read-only transaction": STANDBY,
    "permission denied for table": NO_RIGHT,
    "permission denied for view": NO_RIGHT,
    "permission denied for sequence": NO_RIGHT,
    "permission denied for schema": NO_RIGHT,
    "permission denied for database": NO_ENTRY,
    "file is not a database": f"the file of the database is another one, or damaged: {_RESTORE}",
    "disk image is malformed": f"the file of the database is damaged: {_RESTORE}",
    "unable to open database file": "its path is a folder, or this account may not open it",
    "readonly database": "this account may not write the file of the database or to its folder",
}

#: Errors of a statement, not of the database: trying again would never succeed.
BUGS = (IntegrityError, ProgrammingError, DataError, NotSupportedError)

#: Classes of PostgreSQL's SQLSTATE that no other statement would fare better with: the connection, the server's
#: resources, an operator's intervention.
AWAY_CLASSES = ("08", "53", "57", "58")


@contextmanager
def writing(database: Database, guard: Guard | None = None) -> Iterator[Session]:
    """A writing transaction, in which `guard` is called first. Raises what that raises, DatabaseUnavailable, and
    SchemaOutdated when a table or column is missing."""
    with _translating(), database.writing() as session:
        if guard is not None:
            guard(session.connection())
        yield session


@contextmanager
def writing_rows(database: Database, guard: Guard | None = None) -> Iterator[Connection]:
    """A writing transaction of statements alone; raises as `writing` does."""
    with _translating(), database.writing_rows() as connection:
        if guard is not None:
            guard(connection)
        yield connection


@contextmanager
def reading(database: Database) -> Iterator[Connection]:
    """A reading transaction; raises as `writing` does."""
    with _translating(), database.reading() as connection:
        yield connection


@contextmanager
def reading_once(database: Database) -> Iterator[Connection]:
    """A connection for one reading statement; raises as `writing` does."""
    with _translating(), database.reading_once() as connection:
        yield connection


def retried(function: Callable[P, R]) -> Callable[P, R]:
    """Run the transaction again when another writer inserted the same row first."""

    @wraps(function)
    def again(*args: P.args, **kwargs: P.kwargs) -> R:
        for _ in range(TRIES - 1):
            try:
                return function(*args, **kwargs)
            except IntegrityError:
                continue
        return function(*args, **kwargs)

    return again


def together(work: Callable[[Sequence[T]], Sequence[R]], items: Sequence[T]) -> list[R | Exception]:
    """The results of `work`, such as one transaction, for all items together. If that raises, each item is tried alone,
    and its own error takes the place of its result.

    Items are not tried alone once the database is away or outdated. `work` must leave nothing behind when it raises.
    """
    if not items:
        return []
    found = result_or_error(lambda: list(work(items)))
    if not isinstance(found, Exception):
        return [*found]
    if len(items) == 1 or concerns_all(found):
        return [found] * len(items)
    ends: list[R | Exception] = []
    for number, item in enumerate(items):
        (end,) = together(work, [item])
        if isinstance(end, Exception) and concerns_all(end):
            return [*ends, *[end] * (len(items) - number)]
        ends.append(end)
    return ends


def concerns_all(error: Exception) -> bool:
    """Whether any other statement would fail too."""
    cause = error.__cause__
    if isinstance(error, DatabaseUnavailable) and isinstance(cause, DBAPIError):
        state = getattr(cause.orig, "sqlstate", None)  # SQLite has none, nor has a lost connection
        return cause.connection_invalidated or state is None or state.startswith(AWAY_CLASSES)
    return isinstance(error, ScreeningError)


def lacks_right(error: Exception) -> bool:
    """Whether the database refused what the account has no right to: no outage, and nothing that ends by itself."""
    return isinstance(error.__cause__, DBAPIError) and _lacks_right(error.__cause__)


def _lacks_right(error: DBAPIError) -> bool:
    return getattr(error.orig, "sqlstate", None) == LACKS_RIGHT


def translated(error: DBAPIError) -> DatabaseUnavailable | SchemaOutdated:
    """A database error as this program's own. The message leaves out the statement and its parameters, which may
    identify patients."""
    cause = _cause(error)
    remedy = next((f": {remedy}" for phrase, remedy in REMEDIES.items() if phrase in cause), "")
    return missing(error) or DatabaseUnavailable(cause + remedy)


def missing(error: DBAPIError) -> SchemaOutdated | None:
    """The error as SchemaOutdated, if a table or column is missing; else None."""
    cause = _cause(error)
    # a database or role that is missing is an OperationalError, and no upgrade makes one
    lacks_table = isinstance(error, ProgrammingError) and "does not exist" in cause
    if lacks_table or any(phrase in cause for phrase in MISSING):
        return SchemaOutdated(f"{cause}: run `worker db upgrade`")
    return None


@contextmanager
def _translating() -> Iterator[None]:
    try:
        yield
    except BUGS as error:
        own = translated(error) if _lacks_right(error) else missing(error)
        if own is None:
            raise
        raise own from error
    except DBAPIError as error:
        raise translated(error) from error


def _cause(error: DBAPIError) -> str:
    return str(error.orig).strip().splitlines()[0]
