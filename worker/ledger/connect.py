"""Opens the ledger's database at the right migration. Imports little, because readers use it too."""

import time
from collections.abc import Callable
from contextlib import closing

from sqlalchemy.exc import ArgumentError, DBAPIError

from schema.database import HEAD, Database
from schema.setting_values import Silent
from worker.errors import BadSetting, NoHome, ScreeningError
from worker.ledger.clocks import now
from worker.ledger.identifiers import check_database
from worker.ledger.schema_revision import refuse_newer, revision
from worker.ledger.server_database import require_unicode
from worker.ledger.transactions import translated
from worker.ledger.worklist.list_mode import is_silent_run
from worker.runtime.state_folder import make_home
from worker.settings import Settings

#: How long a queue worker that was started beside a watcher waits for the embedded database.
MADE_WITHIN_S = 30.0


def open_existing(settings: Settings) -> Database:
    """The ledger's database for readers. Raises NoHome when there is none: an empty worklist in the wrong folder would
    look as if there were nothing to read."""
    if settings.lacks_database:
        raise NoHome(
            "no state folder here: run `worker screen` first, or set SCREENING_HOME to the folder where it ran"
        ).about(str(settings.home))
    database = open_database(settings)
    try:
        database.is_silent_run = is_silent_run(database, settings.silent is Silent.ON)
    except ScreeningError:
        database.close()
        raise
    return database


def open_database(settings: Settings, opened: Callable[[Database], None] = lambda _: None) -> Database:
    """The ledger's database. The embedded one is upgraded without asking.

    Raises NoHome, BadSetting, SchemaOutdated, IdentifiersDiffer, DatabaseUnavailable, StorageUnavailable.
    """
    if not settings.database:
        make_home(settings)
    database = unopened(settings)
    opened(database)  # it may be slow to answer, and somebody may want to know
    try:
        if not settings.database and revision(database) != HEAD:
            upgrade(settings)
        check_database(database, settings, now())
    except ScreeningError:
        database.close()
        raise
    return database


def wait_until_made(database: Database, settings: Settings, patience_s: float = MADE_WITHIN_S) -> None:
    """Wait, at most `patience_s`, until the watcher has made or upgraded the embedded database.

    Raises SchemaOutdated when it is newer than this program, DatabaseUnavailable.
    """
    deadline = time.monotonic() + patience_s
    while not settings.database and time.monotonic() < deadline:
        found = None if settings.lacks_database else revision(database)
        refuse_newer(found)
        if found == HEAD:
            return
        time.sleep(0.1)


def unopened(settings: Settings) -> Database:
    """The ledger's database, without a connection yet; raises BadSetting for a URL that no driver understands."""
    try:
        is_silent_run = settings.silent is Silent.ON
        return Database(settings.database_url, silence_s=settings.database_silence_s, is_silent_run=is_silent_run)
    except (ArgumentError, ImportError) as error:
        raise BadSetting(
            f"SCREENING_DATABASE cannot be used ({error}): give a postgresql:// or sqlite:/// URL"
        ) from error


def upgrade(settings: Settings) -> None:
    """Run the missing migrations; raises DatabaseUnavailable, SchemaOutdated when this program is too old, BadSetting
    for an empty database that cannot store every name."""
    from schema.migrate import upgrade as migrate  # loads Alembic

    make_home(settings)
    with closing(unopened(settings)) as database:
        found = revision(database)
        refuse_newer(found)
        if found is None:
            require_unicode(database)
    try:
        migrate(settings.database_url)
    except DBAPIError as error:
        raise translated(error) from error
