"""Whether a database is at the migration that this program needs."""

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from schema.database import HEAD, Database
from worker.errors import BadSetting, SchemaOutdated
from worker.ledger.transactions import reading_once, translated


def revision(database: Database) -> str | None:
    """The migration of the database; raises DatabaseUnavailable."""
    try:
        return database.revision()
    except DBAPIError as error:
        raise translated(error) from error


def require_head(database: Database) -> str:
    """The migration of the database, if it is this program's. Raises SchemaOutdated with the remedy,
    DatabaseUnavailable."""
    found = revision(database)
    refuse_newer(found)
    if found != HEAD:
        raise SchemaOutdated(
            f"the database is at {found or 'no migration'}, this program needs {HEAD}: run `worker db upgrade`"
        )
    return found


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


def refuse_newer(found: str | None) -> None:
    """Raise SchemaOutdated when the database is at a migration that this program does not know."""
    if found is not None and found > HEAD:
        raise SchemaOutdated(
            f"the database is at {found}, this program knows migrations up to {HEAD}: upgrade the program, or restore"
            " the backup that was made before the database was upgraded"
        )
