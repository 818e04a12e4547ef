"""Opens the ledger's database at the right migration. Light: readers come through here too."""

from datetime import UTC, datetime

from sqlalchemy.exc import ArgumentError, DBAPIError

from schema.database import HEAD, Database
from worker.errors import BadSetting, SchemaOutdated
from worker.ledger.transactions import told
from worker.settings import Settings


def now() -> datetime:
    """The clock of the house."""
    return datetime.now(UTC)


def open_database(settings: Settings) -> Database:
    """The ledger's database. The embedded one is brought up to date without asking.

    Raises BadSetting, SchemaOutdated, DatabaseUnavailable.
    """
    if not settings.database:
        settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    database = unopened(settings)
    found = revision(database)
    if found == HEAD:
        return database
    if settings.database:
        raise SchemaOutdated(
            f"the database is at {found or 'no migration'}, this program needs {HEAD}: run `worker db upgrade`"
        )
    upgrade(settings)
    return database


def unopened(settings: Settings) -> Database:
    """The ledger's database, not dialled yet; raises BadSetting for a URL that no driver here understands."""
    try:
        return Database(settings.database_url)
    except (ArgumentError, ImportError) as error:
        raise BadSetting(
            f"SCREENING_DATABASE cannot be used ({error}): give a postgresql:// or sqlite:/// URL"
        ) from error


def upgrade(settings: Settings) -> None:
    """Run the migrations that are missing; raises DatabaseUnavailable."""
    from schema.migrate import upgrade as migrate  # loads Alembic

    settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    unopened(settings).close()
    try:
        migrate(settings.database_url)
    except DBAPIError as error:
        raise told(error) from error


def revision(database: Database) -> str | None:
    """The migration the database is at; raises DatabaseUnavailable."""
    try:
        return database.revision()
    except DBAPIError as error:
        raise told(error) from error
