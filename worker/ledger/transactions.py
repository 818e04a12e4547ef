"""One transaction with the database, its faults told in our words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sqlalchemy.exc import DBAPIError, IntegrityError, ProgrammingError

from schema.database import Database
from worker.errors import DatabaseUnavailable, SchemaOutdated

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.orm import Session

#: What SQLite says of a table or column that is not there; PostgreSQL has an error of its own for it.
MISSING = ("no such table", "no such column")


@contextmanager
def writing(database: Database) -> Iterator[Session]:
    """A writing transaction; raises DatabaseUnavailable when the database is away, SchemaOutdated when tables lack."""
    try:
        with database.writing() as session:
            yield session
    except IntegrityError:
        raise
    except DBAPIError as error:
        raise told(error) from error


@contextmanager
def reading(database: Database) -> Iterator[Connection]:
    """A reading transaction; raises as `writing` does."""
    try:
        with database.reading() as connection:
            yield connection
    except DBAPIError as error:
        raise told(error) from error


def told(error: DBAPIError) -> DatabaseUnavailable | SchemaOutdated:
    """The fault in our words; the statement and its parameters (patients!) stay out of the message."""
    cause = str(error.orig).strip().splitlines()[0]
    is_missing = (
        isinstance(error, ProgrammingError) and "does not exist" in cause
    )  # not: a database that does not exist
    if is_missing or any(phrase in cause for phrase in MISSING):
        return SchemaOutdated(f"{cause}: run `worker db upgrade`")
    return DatabaseUnavailable(cause)
