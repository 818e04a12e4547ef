"""A queue worker that starts before its watcher waits for the embedded database, and for no other."""

import threading
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text

from schema.database import Database
from worker.errors import DatabaseUnavailable, SchemaOutdated
from worker.ledger.connect import open_database, unopened, wait_until_made
from worker.ledger.transactions import reading
from worker.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home")


def test_who_comes_before_the_database_waits_for_it(settings: Settings) -> None:
    with closing(Database(settings.database_url)) as early:
        waiting = threading.Thread(target=wait_until_made, args=[early, settings, 60.0])
        waiting.start()
        waiting.join(0.3)
        assert waiting.is_alive()
        open_database(settings).close()
        waiting.join(60)
        assert not waiting.is_alive()


def test_a_newer_database_is_told_at_once_and_one_elsewhere_is_not_waited_for(settings: Settings) -> None:
    with closing(open_database(settings)) as database:
        with database.writing() as session:
            session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        with pytest.raises(SchemaOutdated, match="upgrade the program"):
            wait_until_made(database, settings, 60.0)
        wait_until_made(database, Settings(home=settings.home, database="sqlite:////nowhere/ledger.sqlite"), 60.0)


@pytest.mark.parametrize(
    ("content", "told"),
    [(b"this is no database at all" * 9, r"file is not a database: .* restore it"), (None, "its path is a folder")],
    ids=["text", "folder"],
)
def test_what_is_no_database_is_told_with_a_remedy(settings: Settings, content: bytes | None, told: str) -> None:
    file = settings.home / "screening.sqlite"
    settings.home.mkdir()
    if content is None:
        file.mkdir()
    else:
        file.write_bytes(content)
    with pytest.raises(DatabaseUnavailable, match=told):
        open_database(settings)


def test_a_damaged_database_is_told_with_a_remedy(settings: Settings) -> None:
    open_database(settings).close()
    file = settings.home / "screening.sqlite"
    pages = bytearray(file.read_bytes())
    for start in range(4096, len(pages), 4096):
        pages[start : start + 200] = b"\xaa" * 200
    file.write_bytes(pages)
    with (
        pytest.raises(DatabaseUnavailable, match=r"damaged: .* restore it from a backup"),
        closing(unopened(settings)) as database,
        reading(database) as connection,
    ):
        connection.execute(text("SELECT count(*) FROM study")).all()
