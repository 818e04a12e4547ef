"""Alembic's door: which metadata to compare with, and a connection opened as the house opens it."""

from alembic import context

from schema.database import open_engine
from schema.models import Base


def is_ours(_object: object, name: str | None, kind: str, _reflected: bool, _compare_to: object) -> bool:
    """Leave other people's tables in a shared database alone."""
    return kind != "table" or name in Base.metadata.tables


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
        context.run_migrations()
engine.dispose()
