"""The migrations, and a new SQLite file without them, have exactly the schema that the tables declare."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, inspect, text

from hypervisor.store import tables  # noqa: F401  (registers every table)
from hypervisor.store.base import Base
from hypervisor.store.driver.address import parse_database_url
from hypervisor.store.migrations.runner import on_connection, upgrade
from tests.support.releases import move_to

QUEUE_INDEX = "ix_deployments_queue"
"""An index on an expression (priority DESC). Reflection cannot compare it, so its definition is read."""


@pytest.fixture
async def migrated_url(empty_database_url: str) -> str:
    """A database to which every migration was applied, one after another."""
    await move_to(empty_database_url, "head")
    return empty_database_url


def differences(connection: Connection) -> list[Any]:
    def compared(_object: object, name: str | None, kind: str, _reflected: bool, _other: object) -> bool:
        return not (kind == "index" and name == QUEUE_INDEX)

    context = MigrationContext.configure(
        connection, opts={"compare_type": True, "include_object": compared, "target_metadata": Base.metadata}
    )
    return list(compare_metadata(context, Base.metadata))


def queue_index(connection: Connection) -> str:
    if connection.dialect.name == "sqlite":
        query = "SELECT sql FROM sqlite_master WHERE type = 'index' AND name = :name"
    else:
        query = "SELECT indexdef FROM pg_indexes WHERE indexname = :name"
    return str(connection.scalar(text(query), {"name": QUEUE_INDEX}))


def check_constraints(connection: Connection) -> dict[str, set[str | None]]:
    inspector = inspect(connection)
    return {
        table: {check["name"] for check in inspector.get_check_constraints(table)}
        for table in Base.metadata.tables
    }


async def test_migrated_schema_equals_the_tables(migrated_url: str) -> None:
    engine = parse_database_url(migrated_url).engine()
    try:
        async with engine.connect() as connection:
            assert await connection.run_sync(differences) == []
    finally:
        await engine.dispose()


async def test_the_queue_index_has_the_order_of_the_queue(migrated_url: str) -> None:
    engine = parse_database_url(migrated_url).engine()
    try:
        async with engine.connect() as connection:
            definition = await connection.run_sync(queue_index)
    finally:
        await engine.dispose()
    assert "cluster_id, priority DESC, created_at, id" in definition
    assert "QUEUED" in definition.split("WHERE")[1]


async def test_the_database_has_the_check_constraints_of_the_tables(migrated_url: str) -> None:
    engine = parse_database_url(migrated_url).engine()
    try:
        async with engine.connect() as connection:
            found = await connection.run_sync(check_constraints)
    finally:
        await engine.dispose()
    for name, table in Base.metadata.tables.items():
        declared = {str(c.name) for c in table.constraints if c.__visit_name__ == "check_constraint"}
        assert declared <= found[name], name


def definitions(connection: Connection) -> dict[str, frozenset[str]]:
    """For each table the set of its columns and constraints, for each index its statement."""
    rows = connection.execute(text("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"))
    return {name: frozenset(parts_of(sql)) for name, sql in rows if not name.startswith("sqlite_")}


def parts_of(statement: str) -> list[str]:
    """The parts of a CREATE TABLE between its outer commas, with equivalent spellings made equal."""
    plain = " ".join(statement.replace('"', "").replace("DEFAULT false", "DEFAULT 0").split())
    if not plain.startswith("CREATE TABLE"):
        return [plain]
    body = plain[plain.index("(") + 1 : plain.rindex(")")]
    depth, parts = 0, [""]
    for letter in body:
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]


async def rows_of(url: str) -> dict[str, list[tuple[Any, ...]]]:
    rows: dict[str, list[tuple[Any, ...]]] = {}

    def read(connection: Connection) -> None:
        for table in inspect(connection).get_table_names():
            rows[table] = [tuple(row) for row in connection.execute(text(f"SELECT * FROM {table}"))]

    await on_connection(url, read)
    return rows


async def test_a_new_file_equals_a_migrated_one(empty_sqlite_url: str, tmp_path: Path) -> None:
    """A new file is created without migrations, so migrations must not insert rows either."""
    migrated = f"sqlite:///{tmp_path / 'migrated.db'}"
    await move_to(migrated, "head")
    await upgrade(empty_sqlite_url)
    schemas: list[dict[str, frozenset[str]]] = []
    for url in (migrated, empty_sqlite_url):
        await on_connection(url, lambda connection: schemas.append(definitions(connection)))
    assert len(schemas[0]) > 60
    assert schemas[1] == schemas[0]
    assert await rows_of(empty_sqlite_url) == await rows_of(migrated)
