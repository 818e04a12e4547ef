"""What an administrator may have set for a PostgreSQL database, and what its text is stored as."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import attrs
import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError

from schema.database import Database
from schema.migrate import upgrade as migrate
from schema.vocabulary import Process
from tests.ledger import STUDY, Ledger
from worker.errors import BadSetting, DatabaseUnavailable
from worker.ledger.connect import upgrade
from worker.ledger.operations.signs_of_life import Signs
from worker.ledger.server_database import require_unicode, require_writable
from worker.ledger.transactions import translated
from worker.monitoring.health import CheckResult, check, check_readiness
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


def test_a_database_in_use_that_lacks_characters_is_well_with_a_remark(latin: str, settings: Settings) -> None:
    """It served until this release: its monitoring must not turn red with an update."""
    migrate(latin)
    (finding, *_) = check_readiness(attrs.evolve(settings, database=latin))
    assert (finding.what, finding.is_well) == ("database", True), finding.message
    assert "text stored as LATIN1" in finding.message


def test_a_database_of_every_character_that_is_written_to_is_well(desk: Ledger) -> None:
    require_unicode(desk.database)
    require_writable(desk.database)
    assert database_finding(desk).is_well


def test_a_standby_is_not_well_and_told_with_the_remedy(desk: Ledger) -> None:
    """After a failover the name of the database may lead to a server that is read alone."""
    with desk.database.writing_rows() as connection:
        name = make_url(desk.database.url).database
        connection.execute(text(f"ALTER DATABASE {name} SET default_transaction_read_only = on"))
    desk.database.close()
    finding = database_finding(desk)
    assert not finding.is_well
    assert "takes no writes: it is a standby" in finding.message
    with pytest.raises(DatabaseUnavailable, match="read-only transaction: it is a standby"):
        desk.receive()


@contextmanager
def as_another(desk: Ledger, *statements: str) -> Iterator[None]:
    """The database as an account sees it that has the rights which the statements give to ROLE."""
    role = f"another_{make_url(desk.database.url).database}"
    with desk.database.writing_rows() as connection:
        for statement in (f"CREATE ROLE {role} LOGIN", *statements):
            connection.execute(text(statement.replace("ROLE_", role)))
    owner, desk.database = desk.database, Database(f"{desk.database.url}&options=-crole%3D{role}")
    try:
        yield
    finally:
        desk.database.close()
        desk.database = owner
        with owner.writing_rows() as connection:
            connection.execute(text(f"DROP OWNED BY {role}; DROP ROLE {role}"))


READS = "GRANT SELECT ON ALL TABLES IN SCHEMA public TO ROLE_"
COUNTS = "GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO ROLE_"
WRITES = "GRANT ALL ON ALL TABLES IN SCHEMA public TO ROLE_"


def test_an_account_without_the_rights_is_not_well_and_told_with_the_remedy(desk: Ledger) -> None:
    with as_another(desk, READS, COUNTS, "GRANT INSERT, UPDATE ON arrival TO ROLE_"):
        finding = database_finding(desk)
        assert not finding.is_well
        assert re.search(r"permission denied for .*\bstudy\b.*: let the account", finding.message)
        assert "arrival" not in finding.message
        with pytest.raises(DatabaseUnavailable, match=r"permission denied for .*: let the account"):
            desk.receive()


@pytest.mark.parametrize(
    ("statement", "closed"),
    [
        ("REVOKE UPDATE ON study FROM ROLE_", "study"), ("REVOKE DELETE ON hold FROM ROLE_", "hold"),
        ("REVOKE USAGE ON study_id_seq FROM ROLE_", "study_id_seq"), ("REVOKE UPDATE ON audit FROM ROLE_", ""),
    ],
)  # fmt: skip
def test_every_right_that_the_program_needs_is_asked_for(desk: Ledger, statement: str, closed: str) -> None:
    with as_another(desk, WRITES, COUNTS, statement):
        finding = database_finding(desk)
        assert finding.is_well is not bool(closed)
        assert not closed or f"permission denied for {closed}: let the account" in finding.message


@pytest.mark.slow
def test_a_right_that_is_not_there_hides_no_other_finding(desk: Ledger) -> None:
    with as_another(desk, WRITES, COUNTS, "REVOKE DELETE ON hold FROM ROLE_"):
        findings = {found.what: found for found in check(attrs.evolve(desk.settings, database=desk.database.url))}
    assert not findings["database"].is_well
    assert findings["waiting"].is_well, findings["waiting"].message
    assert findings["clock"].is_well


def test_an_account_that_may_not_enter_the_database_is_told_so() -> None:
    refused = OperationalError("", {}, Exception('FATAL:  permission denied for database "screening"'))
    assert str(translated(refused)).endswith("grant the account of SCREENING_DATABASE the right CONNECT on it")


def test_a_sign_of_life_that_the_account_may_not_write_is_told(desk: Ledger, caplog: pytest.LogCaptureFixture) -> None:
    with as_another(desk, WRITES, COUNTS, "REVOKE UPDATE ON sign_of_life FROM ROLE_"):
        Signs(desk.database, Process.WORKER).give()
    assert [(record.levelname, record.msg) for record in caplog.records] == [("WARNING", "no_sign_of_life")]


def database_finding(desk: Ledger) -> CheckResult:
    """What `worker check` says of the database."""
    in_force = attrs.evolve(desk.settings, database=desk.database.url)
    return next(finding for finding in check_readiness(in_force) if finding.what == "database")
