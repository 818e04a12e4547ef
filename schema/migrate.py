"""Bring a database to the newest migration. Loads Alembic, which is slow; `Database.revision` answers without it."""

from pathlib import Path

from alembic import command
from alembic.config import Config

MIGRATIONS_FOLDER = Path(__file__).parent / "migrations"


def alembic_config(url: str) -> Config:
    """Alembic's configuration for a database URL, without an ini file."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS_FOLDER))
    config.attributes["url"] = url
    return config


def upgrade(url: str) -> None:
    """Run every migration that is missing; safe to call when none is."""
    command.upgrade(alembic_config(url), "head")
