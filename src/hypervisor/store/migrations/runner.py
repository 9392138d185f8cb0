"""Bring a database to the current schema, or say how far it is.

Alembic does the migrating. It is loaded only where there is something to migrate: for telling that there is
nothing, which is all that most starts need, it would take megabytes. A new SQLite file is given the tables as
they are now, which is what its migrations come to (a test compares every definition), in a tenth of the time.
"""

from __future__ import annotations

import re
from ast import literal_eval
from collections.abc import Callable, Iterator
from functools import cache
from importlib import import_module, resources

from sqlalchemy import Connection, inspect, text
from sqlalchemy.ext.asyncio import create_async_engine

from hypervisor.errors import StartupError
from hypervisor.store import tables  # noqa: F401  (registers every table)
from hypervisor.store.base import Base
from hypervisor.store.database import Database, normalise_url

_VERSION_TABLE = """CREATE TABLE alembic_version (
    version_num VARCHAR(32) NOT NULL, CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"""
_SAYS = re.compile(r"^(revision|down_revision) = (.+)$", re.MULTILINE)


async def upgrade(database_url: str) -> None:
    """Apply all missing migrations. Raises StartupError for an unknown kind of URL and for a newer schema."""
    await on_connection(database_url, _upgrade)


async def current_revision(database_url: str) -> str | None:
    """The revision that the database is at, or None for an empty one."""
    seen: list[str | None] = []
    await on_connection(database_url, lambda connection: seen.append(_current(connection)))
    return seen[0]


def head_revision() -> str | None:
    """The revision that this program needs."""
    before = {down for _, down in _migrations()}
    return next((revision for revision, _ in _migrations() if revision not in before), None)


def known_revisions() -> frozenset[str]:
    """Every revision that this program knows; another one is of a newer program."""
    return frozenset(revision for revision, _ in _migrations())


async def on_connection(database_url: str, work: Callable[[Connection], object]) -> None:
    """Run `work` in a transaction of a connection of its own."""
    Database(database_url)  # creates the folder of a new SQLite file
    engine = create_async_engine(normalise_url(database_url))
    try:
        async with engine.begin() as connection:
            await connection.run_sync(work)
    finally:
        await engine.dispose()


def _current(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return found


def _upgrade(connection: Connection) -> None:
    revision = _current(connection)
    if revision is not None and revision not in known_revisions():
        raise StartupError(
            f"the database is of a newer version (schema {revision}): this one has nothing to migrate"
        )
    if revision is None and _is_new_file(connection):
        _create(connection)
    elif revision != head_revision():
        import_module("hypervisor.store.migrations.alembic_config").to_head(connection)


def _is_new_file(connection: Connection) -> bool:
    return connection.dialect.name == "sqlite" and not inspect(connection).get_table_names()


def _create(connection: Connection) -> None:
    Base.metadata.create_all(connection, checkfirst=False)
    connection.execute(text(_VERSION_TABLE))
    connection.execute(text("INSERT INTO alembic_version VALUES (:head)"), {"head": head_revision()})


@cache
def _migrations() -> tuple[tuple[str, str | None], ...]:
    """Each migration as it says of itself: its revision and the one before.

    Read once: a newer version may be put in the place of this one while it runs, and migrate the database.
    """
    return tuple(_read_migrations())


def _read_migrations() -> Iterator[tuple[str, str | None]]:
    for file in (resources.files("hypervisor.store") / "migrations" / "versions").iterdir():
        if file.name.endswith(".py"):
            said = {name: literal_eval(value) for name, value in _SAYS.findall(file.read_text("utf-8"))}
            yield said["revision"], said["down_revision"]
