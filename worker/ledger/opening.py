"""Opens the ledger's database at the right migration. Light: readers come through here too."""

from contextlib import closing
from datetime import UTC, datetime

from sqlalchemy.exc import ArgumentError, DBAPIError

from schema.database import HEAD, Database
from worker.errors import BadSetting, NoHome, ScreeningError
from worker.ledger.migration import refuse_newer, revision
from worker.ledger.spelling import agree
from worker.ledger.transactions import told
from worker.settings import Settings


def now() -> datetime:
    """The clock of the house."""
    return datetime.now(UTC)


def make_home(settings: Settings) -> None:
    """Make the state folder; raises NoHome when it cannot be made or written."""
    try:
        settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        (settings.home / "lock").touch(mode=0o600)
    except OSError as error:
        raise NoHome(
            f"the state folder cannot be written ({error.strerror}): set SCREENING_HOME to a folder of yours"
        ).about(str(settings.home)) from error


def open_existing(settings: Settings) -> Database:
    """The ledger's database for those who only look. Raises NoHome where nothing was ever screened: an empty list in
    the wrong folder would look like nothing to read."""
    if not settings.database and not (settings.home / "screening.sqlite").is_file():
        raise NoHome(
            "no state folder here: run `worker screen` first, or set SCREENING_HOME to the folder where it ran"
        ).about(str(settings.home))
    return open_database(settings)


def open_database(settings: Settings) -> Database:
    """The ledger's database. The embedded one is brought up to date without asking.

    Raises NoHome, BadSetting, SchemaOutdated, IdentifiersDiffer, DatabaseUnavailable, StorageUnavailable.
    """
    if not settings.database:
        make_home(settings)
    database = unopened(settings)
    try:
        if not settings.database and revision(database) != HEAD:
            upgrade(settings)
        agree(database, settings, now())
    except ScreeningError:
        database.close()
        raise
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
    """Run the migrations that are missing; raises DatabaseUnavailable, and SchemaOutdated when this program is old."""
    from schema.migrate import upgrade as migrate  # loads Alembic

    make_home(settings)
    with closing(unopened(settings)) as database:
        refuse_newer(revision(database))
    try:
        migrate(settings.database_url)
    except DBAPIError as error:
        raise told(error) from error
