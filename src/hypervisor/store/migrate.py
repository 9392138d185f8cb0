"""Bring a database to the current schema with Alembic, or say how far it is."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import resources

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import create_async_engine

from hypervisor.errors import StartupError
from hypervisor.store.database import Database, normalise_url


async def upgrade(database_url: str) -> None:
    """Apply all missing migrations. Raises StartupError for an unknown kind of URL and for a newer schema."""
    await on_connection(database_url, _upgrade)


async def current_revision(database_url: str) -> str | None:
    """The revision that the database is at, or None for an empty one."""
    seen: list[str | None] = []
    await on_connection(
        database_url,
        lambda connection: seen.append(MigrationContext.configure(connection).get_current_revision()),
    )
    return seen[0]


@cache
def head_revision() -> str | None:
    """The revision that this program needs."""
    return ScriptDirectory.from_config(_config()).get_current_head()


@cache
def known_revisions() -> frozenset[str]:
    """Every revision that this program knows; another one is of a newer program."""
    return frozenset(each.revision for each in ScriptDirectory.from_config(_config()).walk_revisions())


async def on_connection(database_url: str, work: Callable[[Connection], object]) -> None:
    """Run `work` in a transaction of a connection of its own."""
    Database(database_url)  # creates the folder of a new SQLite file
    engine = create_async_engine(normalise_url(database_url))
    try:
        async with engine.begin() as connection:
            await connection.run_sync(work)
    finally:
        await engine.dispose()


def _upgrade(connection: Connection) -> None:
    revision = MigrationContext.configure(connection).get_current_revision()
    if revision is not None and revision not in known_revisions():
        raise StartupError(
            f"the database is of a newer version (schema {revision}): this one has nothing to migrate"
        )
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(resources.files("hypervisor.store") / "migrations"))
    return config
