"""Real services for the suite: a SQLite file and a PostgreSQL, migrated; a private Redis; a clock that the test moves.

A test takes what it needs as an argument: `desk` (ledger, store and clock), `database`, `broker`, `bucket`. A test on a
database runs twice, on SQLite and on PostgreSQL, unless it says `@pytest.mark.parametrize("kind", ["sqlite"])`.
Each process of pytest-xdist starts servers of its own, so tests share nothing but within their process.
A service that cannot start skips its tests at home and fails them where CI is set.
"""

import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from sqlalchemy.engine import make_url

from schema.database import Database
from schema.migrate import upgrade
from tests.ledger import Clock, Ledger
from tests.postgres_server import start_server
from worker.errors import ScreeningError
from worker.runtime.redis_server import private_broker
from worker.runtime.settings_file import NO_FILE
from worker.settings import Settings
from worker.store.folder import FolderStore

if TYPE_CHECKING:
    from tests.object_store import ObjectStore

#: No settings of a service that may be installed on this machine.
os.environ["SCREENING_SETTINGS"] = NO_FILE

#: Tables are as wide as in a pipe; pytest-xdist says 80 columns.
os.environ.pop("COLUMNS", None)

SQLITE, POSTGRESQL = "sqlite", "postgresql"

#: Where Linux keeps files in memory, and the free space below which they stay on disk.
MEMORY, ROOM_BYTES = Path("/dev/shm"), 4 << 30

numbers = itertools.count(1)


def pytest_configure(config: pytest.Config) -> None:
    """Keep temporary files in memory where that is possible and nobody chose another place for them by TMPDIR."""
    if "TMPDIR" in os.environ or not os.access(MEMORY, os.W_OK) or shutil.disk_usage(MEMORY).free < ROOM_BYTES:
        return
    folder = Path(tempfile.mkdtemp(prefix="t", dir=MEMORY))
    folder.chmod(0o711)  # PostgreSQL's user and those of tests pass through
    config.add_cleanup(partial(shutil.rmtree, folder, ignore_errors=True))
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder)  # child processes and pytest-xdist's inherit it
    os.environ["PYTEST_DEBUG_TEMPROOT"] = str(MEMORY)  # `tmp_path`, of which pytest keeps what failed until later runs


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """URL of a PostgreSQL server of our own; its sockets need a short path."""
    folder = Path(tempfile.mkdtemp(prefix="pg"))
    try:
        server = start_server(folder / "data")
    except (ImportError, OSError, RuntimeError, subprocess.SubprocessError) as error:
        _missing(f"no PostgreSQL: {error}")
    url = str(server.get_uri())
    for setting in ("fsync = off", "synchronous_commit = off", "full_page_writes = off", "autovacuum = off"):
        _sql(url, f"ALTER SYSTEM SET {setting}")
    _sql(url, "SELECT pg_reload_conf()")
    yield url
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def migrated_postgresql(postgresql: str) -> str:
    """Name of a migrated database that others are copied from."""
    _sql(postgresql, "CREATE DATABASE migrated")
    upgrade(_database_url(postgresql, "migrated"))
    return "migrated"


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file that others are copied from."""
    file = tmp_path_factory.mktemp("template") / "migrated.sqlite"
    upgrade(f"sqlite:///{file}")
    return file


@pytest.fixture(params=[SQLITE, POSTGRESQL])
def kind(request: pytest.FixtureRequest) -> str:
    """Which database the test runs on."""
    return str(request.param)


@pytest.fixture
def empty_url(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """URL of a database without any table."""
    if kind == SQLITE:
        yield f"sqlite:///{tmp_path / 'empty.sqlite'}"
        return
    yield from _fresh_postgresql(request.getfixturevalue("postgresql"), "template1")


@pytest.fixture
def database_url(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """URL of a migrated database without any row."""
    yield from fresh_database(kind, tmp_path, request)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A migrated database, once on SQLite and once on PostgreSQL."""
    opened = Database(database_url)
    yield opened
    opened.close()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """The defaults, with a state folder of the test's own."""
    return Settings(home=tmp_path / "home", min_free_mib=1)


@pytest.fixture
def store(settings: Settings) -> FolderStore:
    """An empty store."""
    assert settings.store_folder is not None
    return FolderStore(settings.store_folder)


@pytest.fixture
def clock() -> Clock:
    """A clock that the test moves."""
    return Clock()


@pytest.fixture
def desk(database: Database, settings: Settings, store: FolderStore, clock: Clock) -> Ledger:
    """A ledger with settings, store, clock and a model, and the steps of a study."""
    return Ledger(database, settings, store, clock)


@pytest.fixture
def broker(settings: Settings) -> Iterator[Settings]:
    """A real private Redis for `settings`, as the embedded default starts it."""
    try:
        context = private_broker(settings)
        context.__enter__()
    except ScreeningError as error:
        _missing(f"no Redis: {error}")
    yield settings
    context.__exit__(None, None, None)


@pytest.fixture(scope="session")
def served_objects() -> Iterator["ObjectStore"]:
    """An S3 server of our own."""
    try:
        from tests.object_store import ObjectStore
    except ImportError as error:
        _missing(f"no S3 server: {error}")
    server = ObjectStore()
    yield server
    server.stop()


@pytest.fixture
def bucket(served_objects: "ObjectStore") -> str:
    """An empty bucket, which keeps every version of an object: what is written twice shows."""
    name = f"bucket-{next(numbers)}"
    files = served_objects.files
    files.mkdir(name)
    files.make_bucket_versioned(name, True)
    return name


def fresh_database(kind: str, folder: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """URL of a migrated database without any row, for a fixture of any scope; a SQLite file lies in `folder`."""
    if kind == SQLITE:
        file = folder / "screening.sqlite"
        shutil.copy(request.getfixturevalue("migrated_sqlite"), file)
        yield f"sqlite:///{file}"
        return
    server, template = request.getfixturevalue("postgresql"), request.getfixturevalue("migrated_postgresql")
    yield from _fresh_postgresql(server, template)


def _fresh_postgresql(server: str, template: str) -> Iterator[str]:
    name = f"test_{next(numbers)}"
    _sql(server, f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")  # a quarter of the default's time
    yield _database_url(server, name)
    _sql(server, f"DROP DATABASE {name} WITH (FORCE)")


def _database_url(server: str, name: str) -> str:
    url = make_url(server).set(drivername="postgresql+psycopg", database=name)
    return url.render_as_string(hide_password=False)


def _sql(server: str, statement: str) -> None:
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(statement.encode())


def _missing(reason: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
