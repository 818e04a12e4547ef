"""What an administrator may have set for a PostgreSQL database, and what its text is stored as."""

from collections.abc import Iterator

import attrs
import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url

from schema.database import Database
from tests.ledger import STUDY, Ledger
from worker.errors import BadSetting
from worker.ledger.connect import upgrade
from worker.ledger.schema_revision import require_unicode
from worker.settings import Settings
from worker.worklist.unread_list import entries

DEFAULTS = {
    "datestyle": "'SQL, DMY'",
    "intervalstyle": "sql_standard",
    "timezone": "'America/New_York'",
    "default_transaction_isolation": "serializable",
    "synchronous_commit": "off",
    "client_encoding": "LATIN1",
    "bytea_output": "escape",
}


@pytest.fixture
def kind() -> str:
    """PostgreSQL alone: SQLite has no such settings."""
    return "postgresql"


@pytest.fixture
def latin(postgresql: str) -> Iterator[str]:
    """The URL of a database without tables that stores Western European text alone."""
    server = Database(make_url(postgresql).set(drivername="postgresql+psycopg").render_as_string(hide_password=False))
    with server.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'"))
        yield make_url(server.url).set(database="latin").render_as_string(hide_password=False)
        connection.execute(text("DROP DATABASE latin WITH (FORCE)"))
    server.close()


def test_studies_are_screened_and_listed_whatever_the_defaults_of_the_database_are(desk: Ledger) -> None:
    name = make_url(desk.database.url).database
    with desk.database.writing_rows() as connection:
        for setting, value in DEFAULTS.items():
            connection.execute(text(f"ALTER DATABASE {name} SET {setting} = {value}"))
    desk.database.close()  # the next connections have them
    desk.receive(accession_number="\u80ba \u708e")
    desk.screen(STUDY, 0.9)
    (entry,) = entries(desk.database, desk.store)
    assert (entry.verdict, entry.accession_number) == ("flagged", "\u80ba \u708e")
    with desk.database.writing_rows() as connection:
        found = {setting: connection.execute(text(f"SHOW {setting}")).scalar_one() for setting in DEFAULTS}
    assert found | {"datestyle": "", "bytea_output": ""} == {
        "datestyle": "", "intervalstyle": "postgres", "timezone": "UTC", "client_encoding": "UTF8", "bytea_output": "",
        "default_transaction_isolation": "read committed", "synchronous_commit": "on",
    }  # fmt: skip


def test_a_database_that_lacks_characters_is_refused_before_it_has_tables(latin: str, settings: Settings) -> None:
    with pytest.raises(BadSetting, match=r"stores text as LATIN1.*ENCODING 'UTF8'"):
        upgrade(attrs.evolve(settings, database=latin))
    database = Database(latin)
    assert database.revision() is None
    database.close()


def test_a_database_of_every_character_is_accepted(desk: Ledger) -> None:
    require_unicode(desk.database)
