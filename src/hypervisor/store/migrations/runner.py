"""Migration of a database to the current schema, and its current revision.

Alembic takes megabytes, so it is imported only if there is something to migrate; most starts only compare
revisions. A new SQLite file gets the current tables directly, in a tenth of the time. A test checks that the
migrations lead to the same definitions.
"""

from __future__ import annotations

import re
from ast import literal_eval
from collections.abc import Callable, Iterator
from functools import cache
from importlib import import_module, resources

from sqlalchemy import Connection, inspect, text

from hypervisor.errors import StartupError
from hypervisor.store import tables  # noqa: F401  (registers every table)
from hypervisor.store.base import Base
from hypervisor.store.database import Database
from hypervisor.store.driver.address import parse_database_url

_VERSION_TABLE = """CREATE TABLE alembic_version (
    version_num VARCHAR(32) NOT NULL, CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"""
_REVISION_LINE = re.compile(r"^(revision|down_revision) = (.+)$", re.MULTILINE)


async def upgrade(database_url: str) -> None:
    """Apply all pending migrations.

    Raises StartupError for an unsupported URL, a newer schema and a database that is not in UTF-8.
    """
    await on_connection(database_url, _upgrade)


async def current_revision(database_url: str) -> str | None:
    """The revision of the database, or None if it is empty. Raises StartupError if it is not in UTF-8."""
    revisions: list[str | None] = []
    await on_connection(database_url, lambda connection: revisions.append(_current(connection)))
    return revisions[0]


def head_revision() -> str | None:
    """The newest revision of this program."""
    predecessors = {down for _, down in _migrations()}
    return next((revision for revision, _ in _migrations() if revision not in predecessors), None)


def known_revisions() -> frozenset[str]:
    """All revisions of this program. Any other revision belongs to a newer version."""
    return frozenset(revision for revision, _ in _migrations())


async def on_connection(database_url: str, work: Callable[[Connection], object]) -> None:
    """Run `work` in a transaction on a new connection."""
    Database(database_url)  # creates the folder of a new SQLite file
    engine = parse_database_url(database_url).engine()
    try:
        async with engine.begin() as connection:
            await connection.run_sync(work)
    finally:
        await engine.dispose()


def encoding_refusal(connection: Connection) -> tuple[str, str] | None:
    """What is wrong with the encoding of the database, and what to do; None if it is UTF-8."""
    if connection.dialect.name == "sqlite":
        return None
    encoding, name = connection.execute(text("SELECT getdatabaseencoding(), current_database()")).one()
    if encoding == "UTF8":
        return None
    return (
        f"the database {name} has the encoding {encoding}, but names and reasons need UTF8",
        "create another one with `createdb --encoding=UTF8 --template=template0 NAME`, and put NAME into "
        "DATABASE_URL",
    )


def _current(connection: Connection) -> str | None:
    if refusal := encoding_refusal(connection):
        raise StartupError("; ".join(refusal))
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return revision


def _upgrade(connection: Connection) -> None:
    revision = _current(connection)
    if revision is not None and revision not in known_revisions():
        raise StartupError(
            f"the database has the schema {revision} of a newer version, so there is nothing to migrate; "
            "run that version"
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
    """The revision and the previous revision of each migration file.

    Read once: an upgrade may replace the files while this process runs.
    """
    return tuple(_read_migrations())


def _read_migrations() -> Iterator[tuple[str, str | None]]:
    for file in (resources.files("hypervisor.store") / "migrations" / "versions").iterdir():
        if file.name.endswith(".py"):
            lines = _REVISION_LINE.findall(file.read_text("utf-8"))
            values = {name: literal_eval(value) for name, value in lines}
            yield values["revision"], values["down_revision"]
