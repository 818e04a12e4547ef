"""Whether a database is at the migration that this program needs."""

from sqlalchemy.exc import DBAPIError

from schema.database import HEAD, Database
from worker.errors import SchemaOutdated
from worker.ledger.transactions import translated


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


def refuse_newer(found: str | None) -> None:
    """Raise SchemaOutdated when the database is at a migration that this program does not know."""
    if found is not None and found > HEAD:
        raise SchemaOutdated(
            f"the database is at {found}, this program knows migrations up to {HEAD}: upgrade the program, or restore"
            " the backup that was made before the database was upgraded"
        )
