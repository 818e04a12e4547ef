"""A database by URL, with the options that SQLite or PostgreSQL needs. Connects when the first transaction begins."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, text

from schema import postgresql

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

T = TypeVar("T")

#: Newest migration; a test compares it with Alembic's head. Named here so that readers need not load Alembic.
HEAD = "0017"

#: How long a SQLite writer waits for another one. Transactions are short; only a stuck disk takes this long.
SQLITE_BUSY_TIMEOUT_MS = 30_000

#: How long PostgreSQL may keep silent before it counts as away.
SILENCE_S = 60.0

#: Connections that are kept open for the next transaction; threads may open ten more for a while.
CONNECTIONS = 5

#: Most values in one IN list; SQLite and PostgreSQL allow far more.
LONGEST_IN_LIST = 500


class Database:
    """An engine with methods for one transaction each: `writing`, `writing_rows`, `reading`, `reading_once`."""

    def __init__(
        self, url: str, connections: int = CONNECTIONS, silence_s: float = SILENCE_S, is_silent_run: bool = False
    ) -> None:
        self.url = url
        self.is_silent_run = is_silent_run  #: verdicts move no study; a session's `info` has it too
        self.engine = open_engine(url, connections, silence_s)
        self._asked_at: dict[int, float] = {}  #: thread -> when its transaction began, on the steady clock

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A transaction that may write: committed at the end, rolled back on any error."""
        from sqlalchemy.orm import Session  # loaded late: readers do not need it

        with (
            self.asking(),
            Session(self.engine, info={"is_silent_run": self.is_silent_run}) as session,
            session.begin(),
        ):
            yield session

    @contextmanager
    def writing_rows(self) -> Iterator[Connection]:
        """As `writing`, by statements alone: the unit of work would cost a study more than its rows do."""
        with self.asking(), self.engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that only reads; on SQLite it takes no write lock."""
        with (
            self.asking(),
            self.engine.connect().execution_options(read_only=True) as connection,
            connection.begin(),
        ):
            yield connection

    @contextmanager
    def reading_once(self) -> Iterator[Connection]:
        """As `reading`, for one statement: PostgreSQL is not sent BEGIN and COMMIT, which would be two more round
        trips."""
        if self.engine.dialect.name == "sqlite":
            with self.reading() as connection:
                yield connection
            return
        with self.asking(), self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            yield connection

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Count the block as a wait for the database."""
        thread = threading.get_ident()
        self._asked_at[thread] = time.monotonic()
        try:
            yield
        finally:
            self._asked_at.pop(thread, None)

    @property
    def waited_s(self) -> float:
        """For how long the oldest transaction under way has lasted; 0: there is none."""
        return time.monotonic() - min(self._asked_at.copy().values(), default=time.monotonic())

    def revision(self) -> str | None:
        """The migration of this database; None when it has none of these tables."""
        with self.reading() as connection:
            if not self.engine.dialect.has_table(connection, "alembic_version"):
                return None
            return connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()

    def close(self) -> None:
        """Close the pooled connections; needed before a fork."""
        self.engine.dispose()


def open_engine(url: str, connections: int = CONNECTIONS, silence_s: float | None = None) -> Engine:
    """An engine with a pool of `connections`. SQLite: WAL, busy timeout, foreign keys, writers BEGIN IMMEDIATE.

    PostgreSQL: `silence_s` is the longest wait for one answer; None: no bound.
    """
    if not url.startswith("sqlite"):
        engine = create_engine(url, pool_size=connections, hide_parameters=True, pool_pre_ping=True)
        if engine.dialect.name == "postgresql":

            @event.listens_for(engine, "do_connect")
            def connect(_dialect: Any, _record: Any, arguments: Any, parameters: dict[str, Any]) -> Any:
                return postgresql.connect(silence_s, arguments, parameters)

        return engine
    engine = create_engine(url, pool_size=connections, hide_parameters=True)  # parameters may identify patients

    @event.listens_for(engine, "connect")
    def set_up(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # pysqlite's own BEGIN comes too late; `begin` below replaces it
        connection.execute(f"PRAGMA busy_timeout = {SQLITE_BUSY_TIMEOUT_MS}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")  # a committed row must survive a power cut
        connection.execute("PRAGMA foreign_keys = ON")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        is_read_only = connection.get_execution_options().get("read_only", False)
        connection.exec_driver_sql("BEGIN" if is_read_only else "BEGIN IMMEDIATE")

    return engine


def in_lists(values: Sequence[T]) -> Iterator[Sequence[T]]:
    """The values in pieces that fit into one IN list."""
    for start in range(0, len(values), LONGEST_IN_LIST):
        yield values[start : start + LONGEST_IN_LIST]
