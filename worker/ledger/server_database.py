"""What a PostgreSQL server must allow the account of this program: writing, each table, every character."""

from sqlalchemy import text

from schema.database import Database
from schema.models import Arrival, Base, Finding, Study
from schema.operations import BatchRun, Dispatch, InboxShare, InboxWatcher, SignOfLife
from schema.reading_room import Account, Hold, LoginFailure, WebSession
from worker.errors import BadSetting, DatabaseUnavailable
from worker.ledger.transactions import NO_RIGHT, STANDBY, reading_once

#: PostgreSQL's names of the encoding that has every character, and of none: bytes of unknown meaning.
UNICODE, BYTES = "UTF8", "SQL_ASCII"

REMADE = "make one with `CREATE DATABASE ... TEMPLATE template0 ENCODING 'UTF8'`, and restore a dump of this one there"

#: The tables whose rows are locked or changed, and those from which rows are deleted; into every one rows are inserted.
CHANGED = (
    Account, Arrival, BatchRun, Dispatch, Finding, Hold, InboxShare, InboxWatcher, SignOfLife, Study, WebSession
)  # fmt: skip
EMPTIED = (Hold, InboxShare, InboxWatcher, LoginFailure, SignOfLife)

#: Whether nothing may be written, and which tables and sequences lack a right.
_RIGHTS = text("""
    WITH needed AS (
        SELECT to_regclass(name) AS id, name, privilege
        FROM unnest(CAST(:names AS text[]), CAST(:privileges AS text[])) AS pair (name, privilege)
        WHERE to_regclass(name) IS NOT NULL
    ), closed AS (
        SELECT name FROM needed WHERE NOT has_table_privilege(id, privilege)
        UNION SELECT sequence.relname FROM needed
        JOIN pg_depend ON pg_depend.refobjid = needed.id AND pg_depend.deptype = 'a'
        JOIN pg_class AS sequence ON sequence.oid = pg_depend.objid
        WHERE CASE sequence.relkind WHEN 'S' THEN NOT has_sequence_privilege(sequence.oid, 'USAGE, UPDATE') END
    )
    SELECT current_setting('transaction_read_only') = 'on' AS is_read_only,
        (SELECT string_agg(name, ', ' ORDER BY name) FROM closed) AS closed
""")


def _needed() -> list[tuple[str, str]]:
    """Each table with each right that this program needs on it."""
    return [
        *((name, right) for name in Base.metadata.tables for right in ("SELECT", "INSERT")),
        *((table.__tablename__, "UPDATE") for table in CHANGED),
        *((table.__tablename__, "DELETE") for table in EMPTIED),
    ]


def require_writable(database: Database) -> None:
    """Raise DatabaseUnavailable where this account may not write: of a standby, or without the rights."""
    if database.engine.dialect.name != "postgresql":
        return
    with reading_once(database) as connection:
        names, privileges = zip(*_needed(), strict=True)
        found = connection.execute(_RIGHTS, {"names": [*names], "privileges": [*privileges]}).one()
    if found.is_read_only:
        raise DatabaseUnavailable(f"the database takes no writes: {STANDBY}")
    if found.closed:
        raise DatabaseUnavailable(f"permission denied for {found.closed}: {NO_RIGHT}")


def require_unicode(database: Database) -> None:
    """Raise BadSetting where a server's database cannot store every name. Raises DatabaseUnavailable."""
    encoding = text_encoding(database)
    if encoding != UNICODE:
        raise _lacking(encoding)


def encoding_remark(database: Database) -> str:
    """What is to be said of the encoding of a database in use: it may have every character that its names need.

    Raises BadSetting for one that does not know what its text means, DatabaseUnavailable.
    """
    encoding = text_encoding(database)
    if encoding == BYTES:
        raise _lacking(encoding)
    return (
        "" if encoding == UNICODE else f"text stored as {encoding}: files with other characters are refused; {REMADE}"
    )


def text_encoding(database: Database) -> str:
    """As what the database stores text, by PostgreSQL's name of it. Raises DatabaseUnavailable."""
    if database.engine.dialect.name != "postgresql":
        return UNICODE
    with reading_once(database) as connection:
        return str(connection.execute(text("SHOW server_encoding")).scalar_one())


def _lacking(encoding: str) -> BadSetting:
    return BadSetting(f"the database stores text as {encoding}, which lacks the characters of many names: {REMADE}")
