"""The lock on a database that several installations use: who may offer its studies for screening.

Either all of them offer through one common broker, or a single one with a private broker. Two private brokers would
offer each other's studies, whose images lie in another store.
"""

import fcntl
import logging
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from schema.database import Database
from worker.errors import DatabaseShared, DatabaseUnavailable
from worker.ledger.transactions import translated
from worker.settings import Settings

log = logging.getLogger(__name__)

#: Time between two looks whether the connection that holds the lock is still there.
LOOK_S = 5.0

#: Key of an advisory lock of PostgreSQL; any number that no other program takes.
LOCK_KEY = 0x5C4EE21A6


class Offering:
    """The right of an installation to offer the studies of a database outside its state folder.

    It is a lock: exclusive with a private broker, shared with a common one. PostgreSQL loses it when it restarts: see
    `keep`.
    """

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database, self._is_exclusive = database, settings.is_embedded
        self._held = ExitStack()
        self._connection: Connection | None = None  #: to PostgreSQL, which keeps the lock as long as it lasts
        self._next_look_s = 0.0
        self.every_s = LOOK_S

    def take(self) -> None:
        """Take the lock; raises DatabaseShared when others hold it, DatabaseUnavailable."""
        is_sqlite = self._database.engine.dialect.name == "sqlite"
        is_taken = self._lock_beside_file() if is_sqlite else self._lock_in_server()
        if not is_taken:
            self._held.close()
            raise DatabaseShared(PRIVATE if self._is_exclusive else OTHERS_PRIVATE)

    def keep(self) -> None:
        """Take the lock again when its connection was lost; raises DatabaseShared when others were faster.

        While the database is away nothing is offered, and nothing is done.
        """
        if self._connection is None or time.monotonic() < self._next_look_s:
            return
        self._next_look_s = time.monotonic() + self.every_s
        try:
            with self._database.asking():
                self._connection.execute(text("SELECT 1"))
            return
        except SQLAlchemyError:  # the connection is lost
            self._held.close()
        with suppress(DatabaseUnavailable):
            self.take()
            log.warning("offering_lock_taken_again")

    def close(self) -> None:
        """Give the lock back."""
        self._held.close()

    def _lock_in_server(self) -> bool:
        """An advisory lock, which a connection of its own holds until it is closed."""
        function = "pg_try_advisory_lock" if self._is_exclusive else "pg_try_advisory_lock_shared"
        try:
            with self._database.asking():
                connection = self._held.enter_context(self._database.engine.connect())
            self._held.callback(_give_back, connection)
            connection.execution_options(isolation_level="AUTOCOMMIT")
            self._connection = connection
            return bool(connection.execute(text(f"SELECT {function}(:key)"), {"key": LOCK_KEY}).scalar_one())
        except DBAPIError as error:
            raise translated(error) from error

    def _lock_beside_file(self) -> bool:
        """A lock on a file beside that of the database."""
        path = self._database.engine.url.database
        if not path or path.startswith("file:"):  # in memory, or a URI whose path SQLite alone reads
            return True
        try:
            file = self._held.enter_context(Path(f"{path}.offering").open("a"))  # noqa: SIM115 the stack closes it
        except OSError as error:
            raise DatabaseUnavailable(
                f"the file that locks it cannot be written ({error.strerror}): check its permissions"
            ).about(f"{path}.offering") from error
        try:
            fcntl.flock(file, (fcntl.LOCK_EX if self._is_exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def _give_back(connection: Connection) -> None:
    """Unlock, because the server notices a closed connection a little later; the pool would keep it, and locked."""
    with suppress(SQLAlchemyError):
        if not connection.invalidated:
            connection.execute(text("SELECT pg_advisory_unlock_all()"))
    connection.invalidate()


@contextmanager
def offering(database: Database, settings: Settings) -> Iterator[Offering]:
    """Hold the right to offer the studies of this database; nobody else may in a state folder.

    Raises DatabaseShared when others hold it, DatabaseUnavailable.
    """
    with closing(Offering(database, settings)) as held:
        if settings.database:
            held.take()
        yield held


#: The messages of DatabaseShared: for an installation with a private broker, and for one with a common broker.
PRIVATE = (
    "another installation works on this database, and SCREENING_BROKER is not set: a private broker would offer its"
    " studies here, where their images may not be. Set SCREENING_BROKER and SCREENING_STORE as it has them, or use a"
    " database of its own"
)
OTHERS_PRIVATE = (
    "an installation with a private broker works on this database, and offers studies whose images it may not have:"
    " stop it, or set its SCREENING_BROKER and SCREENING_STORE as they are here"
)
