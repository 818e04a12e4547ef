"""Opens the ledger's database at the right migration. Light: readers come through here too."""

import time
from contextlib import closing
from datetime import UTC, datetime

from sqlalchemy.exc import ArgumentError, DBAPIError

from schema.database import HEAD, Database
from worker.errors import BadSetting, NoHome, ScreeningError
from worker.ledger.identifiers import agree
from worker.ledger.revision import refuse_newer, revision
from worker.ledger.transactions import told
from worker.runtime.state_folder import make_home
from worker.settings import Settings

#: How long a queue worker that was started beside a watcher waits for the embedded database.
MADE_WITHIN_S = 30.0


def now() -> datetime:
    """The clock of the house."""
    return datetime.now(UTC)


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


def await_made(database: Database, settings: Settings, patience_s: float = MADE_WITHIN_S) -> None:
    """Wait until the embedded database is made, or brought up to date, by the watcher that is to do it; not for ever.

    Raises SchemaOutdated when it is newer than this program, DatabaseUnavailable.
    """
    deadline = time.monotonic() + patience_s
    while not settings.database and time.monotonic() < deadline:
        found = revision(database) if (settings.home / "screening.sqlite").is_file() else None
        refuse_newer(found)
        if found == HEAD:
            return
        time.sleep(0.1)


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
