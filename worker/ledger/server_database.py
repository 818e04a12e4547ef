"""What a PostgreSQL server must allow the account of this program: writing, each table, every character."""

from sqlalchemy import text

from schema.database import Database
from schema.models import Base
from worker.errors import BadSetting, DatabaseUnavailable
from worker.ledger.transactions import NO_RIGHT, STANDBY, reading_once

#: Whether nothing may be written, and which tables lack a right that every one of them needs.
_RIGHTS = text("""
    SELECT current_setting('transaction_read_only') = 'on' AS is_read_only,
        (SELECT string_agg(name, ', ' ORDER BY name) FROM unnest(CAST(:names AS text[])) AS name
         WHERE to_regclass(name) IS NOT NULL
         AND NOT (has_table_privilege(name, 'SELECT') AND has_table_privilege(name, 'INSERT'))) AS closed
""")


def require_writable(database: Database) -> None:
    """Raise DatabaseUnavailable where this account may not write: of a standby, or without the rights."""
    if database.engine.dialect.name != "postgresql":
        return
    with reading_once(database) as connection:
        found = connection.execute(_RIGHTS, {"names": list(Base.metadata.tables)}).one()
    if found.is_read_only:
        raise DatabaseUnavailable(f"the database takes no writes: {STANDBY}")
    if found.closed:
        raise DatabaseUnavailable(f"permission denied for {found.closed}: {NO_RIGHT}")


def require_unicode(database: Database) -> None:
    """Raise BadSetting where a server's database cannot store every name. Raises DatabaseUnavailable."""
    if database.engine.dialect.name != "postgresql":
        return
    with reading_once(database) as connection:
        encoding = connection.execute(text("SHOW server_encoding")).scalar_one()
    if encoding != "UTF8":
        raise BadSetting(
            f"the database stores text as {encoding}, which lacks the characters of many names: make one with `CREATE"
            " DATABASE ... TEMPLATE template0 ENCODING 'UTF8'`, and restore a dump of this one there"
        )
