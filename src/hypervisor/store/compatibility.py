"""The check that this program can work on a schema: its own, or that of the next version during an upgrade.

A migration only adds tables and columns that the previous version may omit. So a server of that version
continues to work after the migration, also after a restart, and servers can be replaced one by one.
"""

from __future__ import annotations

import structlog
from sqlalchemy import Column, Connection, MetaData, Table, inspect
from sqlalchemy.engine.interfaces import ReflectedColumn

from hypervisor.errors import StartupError
from hypervisor.store import tables  # noqa: F401  (registers every table)
from hypervisor.store.base import Base
from hypervisor.store.driver.address import parse_database_url
from hypervisor.store.migrations.runner import (
    current_revision,
    head_revision,
    known_revisions,
    on_connection,
    upgrade,
)

log = structlog.get_logger(__name__)


def incompatibilities(connection: Connection, needed: MetaData) -> list[str]:
    """Why a program with these tables cannot work on this database; empty if it can.

    The database must have each table and column of the program, and every other column must be optional in an
    INSERT. The meaning of a column cannot be compared; a migration must not change it.
    """
    inspector = inspect(connection)
    existing = set(inspector.get_table_names())
    reasons: list[str] = []
    for table in needed.tables.values():
        if table.name not in existing:
            reasons.append(f"table {table.name} is missing")
            continue
        reasons += _incompatible_columns(table, inspector.get_columns(table.name))
    return reasons


async def ensure_usable(database_url: str) -> None:
    """Migrate a SQLite database to the current schema. Raises StartupError for an incompatible database.

    PostgreSQL is migrated only by `hypervisor migrate`.
    """
    revision = await current_revision(database_url)
    if revision == head_revision():
        return
    if revision is not None and revision not in known_revisions():
        await _ensure_fits(database_url, revision)
    elif parse_database_url(database_url).is_sqlite:
        await upgrade(database_url)
    else:
        raise StartupError("the database schema is not that of this version; run `hypervisor migrate` first")


async def _ensure_fits(database_url: str, revision: str) -> None:
    reasons: list[str] = []
    await on_connection(
        database_url, lambda connection: reasons.extend(incompatibilities(connection, Base.metadata))
    )
    if reasons:
        raise StartupError(
            f"the database has the schema {revision} of a newer version, which this version cannot use: "
            f"{reasons[0]}; install that version, or restore a backup from before the upgrade"
        )
    log.warning("schema.newer", revision=revision, advice="finish the upgrade; this program is the older one")


def _incompatible_columns(table: Table, columns: list[ReflectedColumn]) -> list[str]:
    known: dict[str, Column[object]] = {column.name: column for column in table.columns}
    existing = {column["name"] for column in columns}
    missing = [f"column {table.name}.{name} is missing" for name in known if name not in existing]
    required = [
        f"column {table.name}.{column['name']} needs a value"
        for column in columns
        if column["name"] not in known and not _is_optional(column)
    ]
    return missing + required


def _is_optional(column: ReflectedColumn) -> bool:
    return bool(column["nullable"] or column.get("default") is not None or column.get("identity"))
