"""What was released, for tests of upgrades: a release adds its line here."""

from __future__ import annotations

from importlib import resources

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection

from hypervisor.store.migrations.runner import on_connection

RELEASED = {"0.1.0": "0001"}
"""The schema (Alembic revision) of each release, oldest first."""


def previous_revision() -> str:
    """The schema of the last release."""
    return list(RELEASED.values())[-1]


async def move_to(database_url: str, revision: str, *, down: bool = False) -> None:
    """Migrate a database up, or back `down`, to a revision."""

    def move(connection: Connection) -> None:
        config = _config()
        config.attributes["connection"] = connection
        (command.downgrade if down else command.upgrade)(config, revision)

    await on_connection(database_url, move)


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(resources.files("hypervisor.store") / "migrations"))
    return config
