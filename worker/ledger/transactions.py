"""One transaction with the database, its faults told in our words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, NotSupportedError, ProgrammingError

from schema.database import Database
from worker.errors import DatabaseUnavailable, SchemaOutdated

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.orm import Session

P = ParamSpec("P")
R = TypeVar("R")

#: Two writers may insert the same new row at once; the loser sees it at the second try.
TRIES = 3

#: What SQLite says of a table or column that is not there; PostgreSQL has an error of its own for it.
MISSING = ("no such table", "no such column", "has no column")

#: Faults of a statement, not of the database: to try them again would wait for ever.
BUGS = (IntegrityError, ProgrammingError, DataError, NotSupportedError)


@contextmanager
def writing(database: Database) -> Iterator[Session]:
    """A writing transaction; raises DatabaseUnavailable when the database is away, SchemaOutdated when tables lack."""
    try:
        with database.writing() as session:
            yield session
    except BUGS as error:
        outdated = missing(error)
        if outdated is None:
            raise
        raise outdated from error
    except DBAPIError as error:
        raise told(error) from error


@contextmanager
def reading(database: Database) -> Iterator[Connection]:
    """A reading transaction; raises as `writing` does."""
    try:
        with database.reading() as connection:
            yield connection
    except BUGS as error:
        outdated = missing(error)
        if outdated is None:
            raise
        raise outdated from error
    except DBAPIError as error:
        raise told(error) from error


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


def told(error: DBAPIError) -> DatabaseUnavailable | SchemaOutdated:
    """An outage in our words; the statement and its parameters (patients!) stay out of the message."""
    return missing(error) or DatabaseUnavailable(_cause(error))


def missing(error: DBAPIError) -> SchemaOutdated | None:
    """The error as a schema that is behind the program, if it is that."""
    cause = _cause(error)
    # a database or role that is missing is an OperationalError, and no upgrade makes one
    lacks_table = isinstance(error, ProgrammingError) and "does not exist" in cause
    if lacks_table or any(phrase in cause for phrase in MISSING):
        return SchemaOutdated(f"{cause}: run `worker db upgrade`")
    return None


def _cause(error: DBAPIError) -> str:
    return str(error.orig).strip().splitlines()[0]
