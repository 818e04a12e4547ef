"""Alembic's environment: the metadata to compare with, and a connection with the options of `schema.database`."""

from alembic import context
from sqlalchemy import Connection, inspect, text

import schema.operations
import schema.reading_room  # noqa: F401  (both register their tables, and those of `models`)
from schema.columns import Base
from schema.database import HEAD, open_engine


def is_ours(_object: object, name: str | None, kind: str, _reflected: bool, _compare_to: object) -> bool:
    """Ignore tables of other programs in a shared database."""
    return kind != "table" or name in Base.metadata.tables


def stop_writers(connection: Connection) -> None:
    """On PostgreSQL, lock all tables at once, in the order in which workers write rows. If each migration took its own
    locks, a running worker could cause a deadlock after minutes of work."""
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
