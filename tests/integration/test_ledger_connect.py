"""A queue worker that starts before its watcher waits for the embedded database, and for no other."""

import threading
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text

from schema.database import Database
from worker.errors import SchemaOutdated
from worker.ledger.connect import open_database, wait_until_made
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
