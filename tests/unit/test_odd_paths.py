"""A state folder may have any name: what URLs give a meaning to is never left to them."""

import os
from pathlib import Path

import pytest
from kombu import Connection
from kombu.utils.url import _parse_url
from sqlalchemy import text

from schema.database import Database
from schema.migrate import alembic_config
from tests.acceptance.installation import SAMPLES, Installation
from worker.settings import LONGEST_SOCKET_PATH, Settings

NAMES = ("a b", "a#b", "a?b", "a%41b", "a%zz", "a;b", "a&b", "a+b", "a@b", "a:b", "ä b", "a\\b", "$a'\"b")


@pytest.mark.parametrize("name", [*NAMES, os.fsdecode(b"a\xff")])
def test_the_database_lies_in_the_state_folder(tmp_path: Path, name: str) -> None:
    settings = Settings(home=tmp_path / name)
    settings.home.mkdir()
    database = Database(settings.database_url)
    with database.reading() as connection:
        connection.execute(text("SELECT 1"))
    database.close()
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (settings.home / "screening.sqlite").exists()


@pytest.mark.parametrize("name", [*NAMES, os.fsdecode(b"a\xff")])
def test_the_broker_is_asked_at_its_socket(name: str) -> None:
    settings = Settings(home=Path("/s") / name)
    assert len(os.fsencode(settings.broker_socket)) <= LONGEST_SOCKET_PATH
    with Connection(settings.broker_url) as connection:
        read = _parse_url(connection.hostname)  # as kombu's Redis transport reads it
    assert (read.scheme, f"/{read.path}", read.query) == ("socket", str(settings.broker_socket), {})


def test_migrations_are_found_in_a_folder_with_a_per_cent_sign() -> None:
    folder = Path("/opt/100%/migrations")
    assert alembic_config("sqlite://", folder).get_main_option("script_location") == str(folder)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a?b#c%41;d ä&e"])
def test_a_study_is_screened_there(tmp_path: Path, name: str) -> None:
    (row,) = Installation(tmp_path / name).json("screen", SAMPLES / "ida_8_bit.png")
    assert row["state"] == "screened"
    assert [path.name for path in tmp_path.iterdir()] == [name]
