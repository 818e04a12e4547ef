"""Alembic's door: which metadata to compare with, and a connection opened as the house opens it."""

from alembic import context
from sqlalchemy import Connection, inspect, text

from schema.database import HEAD, open_engine
from schema.models import Base


def is_ours(_object: object, name: str | None, kind: str, _reflected: bool, _compare_to: object) -> bool:
    """Leave other people's tables in a shared database alone."""
    return kind != "table" or name in Base.metadata.tables


def stop_writers(connection: Connection) -> None:
    """On PostgreSQL, take all tables at once, in the order in which rows are written: lock after lock, taken as
    migrations come to them, would cross those of a worker that goes on, after minutes of work for nothing."""
    there = set(inspect(connection).get_table_names())
    tables = [table.name for table in Base.metadata.sorted_tables if table.name in there]
    if connection.dialect.name == "postgresql" and tables and context.get_context().get_current_revision() != HEAD:
        connection.execute(text(f"LOCK TABLE {', '.join(tables)} IN ACCESS EXCLUSIVE MODE"))


engine = open_engine(context.config.attributes["url"])
with engine.connect() as connection:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        render_as_batch=connection.dialect.name == "sqlite",
        include_object=is_ours,
        transactional_ddl=True,
    )
    with context.begin_transaction():
        stop_writers(connection)
        context.run_migrations()
engine.dispose()
