"""Whether this installation may offer the studies of a database that others use too: through one broker that all use,
or alone with a private one. Two private brokers would offer each other's studies, whose images lie in another store.
"""

import fcntl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from schema.database import Database
from worker.errors import DatabaseShared, DatabaseUnavailable
from worker.ledger.transactions import translated
from worker.settings import Settings

#: Key of an advisory lock of PostgreSQL; any number that no other program takes.
LOCK_KEY = 0x5C4EE21A6


@contextmanager
def offering(database: Database, settings: Settings) -> Iterator[None]:
    """Hold a lock of a database outside the state folder: exclusive with a private broker, shared with another.

    Raises DatabaseShared when others hold it, DatabaseUnavailable.
    """
    with ExitStack() as stack:
        if settings.database:
            is_sqlite = database.engine.dialect.name == "sqlite"
            lock = _lock_beside_file if is_sqlite else _lock_in_server
            if not lock(stack, database, exclusive=settings.is_embedded):
                raise DatabaseShared(PRIVATE if settings.is_embedded else OTHERS_PRIVATE)
        yield


#: The faults, with their remedies.
PRIVATE = (
    "another installation works on this database, and SCREENING_BROKER is not set: a private broker would offer its"
    " studies here, where their images may not be. Set SCREENING_BROKER and SCREENING_STORE as it has them, or use a"
    " database of its own"
)
OTHERS_PRIVATE = (
    "an installation with a private broker works on this database, and offers studies whose images it may not have:"
    " stop it, or set its SCREENING_BROKER and SCREENING_STORE as they are here"
)


def _lock_in_server(stack: ExitStack, database: Database, *, exclusive: bool) -> bool:
    """An advisory lock, which a connection of its own holds until it is closed."""
    function = "pg_try_advisory_lock" if exclusive else "pg_try_advisory_lock_shared"
    try:
        with database.asking():
            connection = stack.enter_context(database.engine.connect())
        stack.callback(connection.invalidate)  # the pool would keep it open, and locked
        connection.execution_options(isolation_level="AUTOCOMMIT")
        return bool(connection.execute(text(f"SELECT {function}(:key)"), {"key": LOCK_KEY}).scalar_one())
    except DBAPIError as error:
        raise translated(error) from error


def _lock_beside_file(stack: ExitStack, database: Database, *, exclusive: bool) -> bool:
    """A lock on a file beside that of the database."""
    path = database.engine.url.database
    if not path or path.startswith("file:"):  # in memory, or a URI whose path SQLite alone reads
        return True
    try:
        file = stack.enter_context(Path(f"{path}.offering").open("a"))  # noqa: SIM115 the stack closes it
    except OSError as error:
        raise DatabaseUnavailable(
            f"the file that locks it cannot be written ({error.strerror}): check its permissions"
        ).about(f"{path}.offering") from error
    try:
        fcntl.flock(file, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
