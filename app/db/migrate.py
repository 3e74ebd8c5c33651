"""Brings the schema to the newest revision, one process at a time, without waiting long for any lock."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, text

from config.settings import Settings

MIGRATION_LOCK = 0x6D696772  # "migr"
LOCK_TIMEOUT_S = 5
STATEMENT_TIMEOUT_S = 60


def upgrade(settings: Settings) -> str:
    """Apply every revision that is missing; of two at once the second waits for the first.

    Returns:
        The revision the schema is at.
    """
    engine = create_engine(settings.database_url)
    try:
        with engine.connect() as connection:
            connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": MIGRATION_LOCK})
            connection.commit()
            _run_migrations(connection)
            return current_revision(connection) or ""
    finally:
        engine.dispose()  # ends the session, and the lock with it


def _run_migrations(connection: Connection) -> None:
    connection.execute(text(f"SET lock_timeout = '{LOCK_TIMEOUT_S}s'"))
    connection.execute(text(f"SET statement_timeout = '{STATEMENT_TIMEOUT_S}s'"))
    connection.commit()
    config = alembic_config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def alembic_config() -> Config:
    """Alembic's configuration, built here instead of in a file."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    config.set_main_option("path_separator", "os")
    return config


def head_revision() -> str:
    """The newest revision this code knows."""
    return ScriptDirectory.from_config(alembic_config()).get_current_head() or ""


def current_revision(connection: Connection) -> str | None:
    """The revision a database is at."""
    return MigrationContext.configure(connection).get_current_revision()
