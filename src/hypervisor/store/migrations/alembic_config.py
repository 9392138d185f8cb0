"""Migrating with Alembic; apart from what only asks for revisions, because of its size."""

from __future__ import annotations

from importlib import resources

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection


def to_head(connection: Connection) -> None:
    """Apply all missing migrations in the transaction of this connection."""
    config = configuration()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def configuration() -> Config:
    """Where our migrations are."""
    config = Config()
    config.set_main_option("script_location", str(resources.files("hypervisor.store") / "migrations"))
    return config
