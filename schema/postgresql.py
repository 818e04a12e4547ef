"""Connections to PostgreSQL with a bound on every wait, because a server or network may accept all and answer nothing.

Parameters in the database URL replace those below. The settings of a session are those that this program expects,
whatever the defaults of its database, role or server are.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from psycopg import Connection

#: Parameters of libpq: a connection is there within five seconds, and one that lost its server is given up within half
#: a minute, whether data are on their way (tcp_user_timeout) or not (keepalives).
PARAMETERS: dict[str, int] = {
    "connect_timeout": 5,
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}

#: The same for the server: else it keeps the locks of a client that vanished for two hours.
SERVER_KEEPALIVE = "SET tcp_keepalives_idle = 30; SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 3"

#: Psycopg reads one style of dates alone, and text as the server's encoding has it; days of views are UTC; transactions
#: that lock rows are written for READ COMMITTED. What was committed has left the inbox: it must outlive a power cut.
SESSION = """
    SET client_encoding = 'UTF8'; SET datestyle = 'ISO'; SET intervalstyle = 'postgres'; SET timezone = 'UTC';
    SET standard_conforming_strings = on; SET default_transaction_isolation = 'read committed';
    SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'
"""

#: The server ends a statement so long before the client gives it up: its error says more.
SERVER_FIRST_S = 2.0


def connect(silence_s: float | None, arguments: Any, parameters: dict[str, Any]) -> "Connection[Any]":
    """A connection of psycopg, by the arguments of its own `connect`. `silence_s`: longest wait for one answer; None:
    no bound, for migrations. Raises psycopg.Error."""
    from psycopg import Connection, OperationalError
    from psycopg.errors import _WaitTimeout

    class Bounded(Connection[Any]):
        def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
            try:
                return super().wait(gen, interval, silence_s if timeout is None else timeout)
            except _WaitTimeout as error:
                self.pgconn.finish()  # its answer must not meet another question
                raise OperationalError(f"the database has not answered for {timeout or silence_s:g} s") from error

        def __del__(self, *_: Any) -> None:
            """Do nothing, where psycopg would warn of a connection that was in use while its pool was closed: libpq's
            object ends the connection, and only in the process that opened it."""

    opened = Bounded.connect(*arguments, **PARAMETERS | parameters)
    limit_ms = 0 if silence_s is None else round(1000 * max(silence_s - SERVER_FIRST_S, silence_s / 2))
    before, opened.autocommit = opened.autocommit, True
    opened.execute(f"{SERVER_KEEPALIVE}; {SESSION}; SET statement_timeout = {limit_ms}".encode())
    opened.autocommit = before
    return opened
