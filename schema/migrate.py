"""Bring a database to the newest migration. Loads Alembic, which is slow; `Database.revision` answers without it."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy.exc import OperationalError

MIGRATIONS_FOLDER = Path(__file__).parent / "migrations"

#: How often the migration is tried when PostgreSQL ends it because of a deadlock with a worker; one second apart.
TRIES = 30

#: PostgreSQL's code for a deadlock.
DEADLOCK = "40P01"


def alembic_config(url: str, folder: Path = MIGRATIONS_FOLDER) -> Config:
    """Alembic's configuration for a database URL, without an ini file."""
    config = Config()
    config.set_main_option("script_location", str(folder).replace("%", "%%"))  # ini files interpolate
    config.attributes["url"] = url
    return config


def upgrade(url: str) -> None:
    """Run the missing migrations, all or none; safe to call when none is missing, and while old workers run."""
    for left in reversed(range(TRIES)):
        try:
            command.upgrade(alembic_config(url), "head")
        except OperationalError as error:
            if getattr(error.orig, "sqlstate", None) != DEADLOCK or not left:
                raise
        else:
            return
