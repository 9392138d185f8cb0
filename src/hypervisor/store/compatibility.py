"""Whether a program can work on a schema: its own, or that of the next version while an upgrade is under way.

A migration only adds what the version before may leave out. So a server of that version goes on after the
migration, also when it is restarted, and servers are replaced one after another.
"""

from __future__ import annotations

import structlog
from sqlalchemy import Column, Connection, MetaData, Table, inspect
from sqlalchemy.engine.interfaces import ReflectedColumn

from hypervisor.errors import StartupError
from hypervisor.store import tables  # noqa: F401  (registers every table)
from hypervisor.store.base import Base
from hypervisor.store.migrations.runner import (
    current_revision,
    head_revision,
    known_revisions,
    on_connection,
    upgrade,
)

log = structlog.get_logger(__name__)


def misfits(connection: Connection, needed: MetaData) -> list[str]:
    """Why a program with these tables cannot work on this database; empty if it can.

    It can where each of its tables and columns is there, and where it may leave out all others when it adds a
    row. What a column means cannot be compared: that is for the migration to keep.
    """
    look = inspect(connection)
    there = set(look.get_table_names())
    found: list[str] = []
    for table in needed.tables.values():
        if table.name not in there:
            found.append(f"there is no table {table.name}")
            continue
        found += _misfits_of(table, look.get_columns(table.name))
    return found


async def ensure_usable(database_url: str) -> None:
    """Bring the embedded database up to date, and refuse one that this program cannot work on.

    A shared database is brought up to date only by `hypervisor migrate`. Raises StartupError.
    """
    revision = await current_revision(database_url)
    if revision == head_revision():
        return
    if revision is not None and revision not in known_revisions():
        await _ensure_fits(database_url, revision)
    elif database_url.startswith("sqlite"):
        await upgrade(database_url)
    else:
        raise StartupError("The database has not the schema of this version: run `hypervisor migrate` first")


async def _ensure_fits(database_url: str, revision: str) -> None:
    found: list[str] = []
    await on_connection(database_url, lambda connection: found.extend(misfits(connection, Base.metadata)))
    if found:
        raise StartupError(
            f"The database is of a newer version (schema {revision}), and this one cannot work on it: "
            f"{found[0]}; install that version, or restore a backup from before the upgrade"
        )
    log.warning("schema.newer", revision=revision, advice="finish the upgrade: this program is the older one")


def _misfits_of(table: Table, columns: list[ReflectedColumn]) -> list[str]:
    known: dict[str, Column[object]] = {column.name: column for column in table.columns}
    there = {column["name"] for column in columns}
    missing = [f"there is no column {table.name}.{name}" for name in known if name not in there]
    required = [
        f"column {table.name}.{column['name']} has to be filled"
        for column in columns
        if column["name"] not in known and not _may_be_left_out(column)
    ]
    return missing + required


def _may_be_left_out(column: ReflectedColumn) -> bool:
    return bool(column["nullable"] or column.get("default") is not None or column.get("identity"))
