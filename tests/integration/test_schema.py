"""The migrations make the tables of the models and the views, on both databases, and keep the data."""

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from schema import models, operations, reading_room
from schema.database import HEAD, Database
from schema.migrate import alembic_config, upgrade
from schema.vocabulary import FileState, Priority, Reason, StudyState
from tests.ledger import Ledger
from worker.errors import DatabaseUnavailable, SchemaOutdated
from worker.ledger.transactions import reading, writing

#: The views as SQL that creates them on both databases.
VIEWS_FOLDER = Path(models.__file__).parent / "views"

VIEWS = (
    *("accordance", "agreement", "agreement_unseen", "reconciliation", "shadowing", "throughput", "trail"),
    *("turnaround", "worklist"),
)
MODEL = "('d', 'n', 'r', 0.5, '{}', '2026-01-01 00:00:00')"


def definitions(engine: sa.Engine) -> dict[str, str]:
    inspector = sa.inspect(engine)
    return {name: str(inspector.get_view_definition(name)) for name in inspector.get_view_names()}


# SQLAlchemy cannot read them back from SQLite; tests/integration/test_archive.py shows that they serve
@pytest.mark.filterwarnings("ignore:Skipped unsupported reflection of expression-based index")
@pytest.mark.filterwarnings("ignore:autogenerate skipping metadata-specified expression-based index")
def test_the_migrations_make_the_models(database: Database) -> None:
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, reading_room.Base.metadata) == []


def test_the_migrations_make_the_views(database: Database, empty_url: str) -> None:
    fresh = sa.create_engine(empty_url)
    operations.Base.metadata.create_all(fresh)
    with fresh.begin() as connection:
        for view in sorted(VIEWS_FOLDER.glob("*.sql")):
            connection.execute(sa.text(view.read_text(encoding="utf-8")))
    expected = definitions(fresh)
    fresh.dispose()
    assert sorted(expected) == sorted(VIEWS)
    migrated = definitions(database.engine)
    for name in VIEWS:
        # SQLite keeps the text; comments above CREATE VIEW are not part of it
        assert migrated[name].split() == expected[name].split(), f"views/{name}.sql is not what the migrations make"


def test_every_view_can_be_read(database: Database) -> None:
    with database.reading() as connection:
        for name in VIEWS:
            assert connection.execute(sa.text(f"SELECT * FROM {name}")).all() == []


def test_head_is_alembics_head() -> None:
    assert ScriptDirectory.from_config(alembic_config("sqlite://")).get_heads() == [HEAD]


def test_upgrade_twice_is_harmless_and_says_where_it_is(empty_url: str) -> None:
    database = Database(empty_url)
    assert database.revision() is None
    upgrade(empty_url)
    assert database.revision() == HEAD
    with database.writing() as session:
        session.execute(sa.text(f"INSERT INTO model_version VALUES {MODEL}"))
    upgrade(empty_url)
    with database.reading() as connection:
        assert connection.execute(sa.text("SELECT COUNT(*) FROM model_version")).scalar_one() == 1
    database.close()


def test_the_migrations_leave_other_peoples_tables_alone(empty_url: str) -> None:
    database = Database(empty_url)
    with database.writing() as session:
        session.execute(sa.text("CREATE TABLE theirs (id INTEGER)"))
    upgrade(empty_url)
    assert sa.inspect(database.engine).has_table("theirs")
    database.close()


def test_enums_are_stored_by_value(desk: Ledger) -> None:
    desk.receive(priority=Priority.STAT)
    row = desk.study()
    assert (row.state, row.priority, row.reason, row.band) == ("received", "stat", "stat", 1)
    with desk.database.reading() as connection:
        assert connection.execute(sa.text("SELECT state FROM arrival")).scalar_one() == FileState.ACCEPTED.value
    with desk.database.writing() as session:
        study = session.scalars(sa.select(models.Study)).one()
        assert study.state is StudyState.RECEIVED
        assert study.reason is Reason.STAT


def test_a_word_outside_the_vocabulary_is_refused(desk: Ledger) -> None:
    desk.receive()
    statement = sa.update(models.Study).values(state="lost")
    with pytest.raises(sa.exc.StatementError, match="lost"), desk.database.writing() as session:
        session.execute(statement)


@pytest.mark.parametrize(
    "moment",
    [
        datetime(2026, 3, 29, 0, 59, 59, 999999, tzinfo=UTC),
        datetime(2026, 7, 1, 14, 0, tzinfo=timezone(timedelta(hours=2))),
        datetime(1999, 12, 31, 23, 30, tzinfo=timezone(timedelta(hours=-8))),
    ],
)
def test_moments_come_back_aware_and_equal(database: Database, moment: datetime) -> None:
    kept = round_trip(database, moment)
    assert kept == moment
    assert kept.utcoffset() == timedelta(0)


def test_naive_moments_are_refused(database: Database) -> None:
    with pytest.raises(sa.exc.StatementError, match="give it a time zone"):
        round_trip(database, datetime(2026, 1, 1))


def round_trip(database: Database, moment: datetime) -> datetime:
    with database.writing() as session:
        session.add(models.ModelVersion(digest="d", name="n", recipe="r", threshold=0.5, card={}, first_used_at=moment))
    with database.reading() as connection:
        return connection.execute(sa.select(models.ModelVersion.first_used_at)).scalar_one()


def test_a_database_without_tables_asks_for_the_upgrade(empty_url: str) -> None:
    database = Database(empty_url)
    with pytest.raises(SchemaOutdated, match="worker db upgrade"), reading(database) as connection:
        connection.execute(sa.text("SELECT * FROM study"))
    with pytest.raises(SchemaOutdated, match="worker db upgrade"), writing(database) as session:
        session.scalars(sa.select(models.Study)).all()
    database.close()


def test_a_database_that_is_not_there_is_an_outage(database_url: str, kind: str) -> None:
    url = sa.make_url(database_url)
    gone = url.set(database=f"{url.database}/nowhere/x" if kind == "sqlite" else "nowhere")
    database = Database(gone.render_as_string(hide_password=False))
    with pytest.raises(DatabaseUnavailable), reading(database) as connection:
        connection.execute(sa.text("SELECT 1"))
    database.close()


def test_a_writer_that_fails_leaves_nothing(desk: Ledger) -> None:
    def write_and_fail() -> None:
        with writing(desk.database) as session:
            session.execute(sa.text(f"INSERT INTO model_version VALUES {MODEL}"))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_and_fail()
    assert desk.count("model_version") == 0


def test_every_state_has_its_steps_and_none_leads_nowhere() -> None:
    from schema.vocabulary import TRANSITIONS

    assert set(TRANSITIONS) == set(StudyState)
    for state, nexts in TRANSITIONS.items():
        assert nexts, f"nothing leads out of {state}"
        assert state not in nexts
    assert set().union(*TRANSITIONS.values()) == set(StudyState), "a state that nothing leads to"
