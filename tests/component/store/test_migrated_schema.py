"""The migrations lead to exactly the schema that the tables declare."""

from __future__ import annotations

from typing import Any

from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, inspect, text
from sqlalchemy.ext.asyncio import create_async_engine

from hypervisor.store import tables  # noqa: F401  (registers every table)
from hypervisor.store.base import Base
from hypervisor.store.database import normalise_url

QUEUE_INDEX = "ix_deployments_queue"
"""An index on an expression (priority DESC): reflection cannot compare it, its definition is read instead."""


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
    look = inspect(connection)
    return {
        table: {check["name"] for check in look.get_check_constraints(table)}
        for table in Base.metadata.tables
    }


async def test_migrated_schema_equals_the_tables(database_url: str) -> None:
    engine = create_async_engine(normalise_url(database_url))
    try:
        async with engine.connect() as connection:
            assert await connection.run_sync(differences) == []
    finally:
        await engine.dispose()


async def test_queue_index_keeps_the_order_of_the_queue(database_url: str) -> None:
    engine = create_async_engine(normalise_url(database_url))
    try:
        async with engine.connect() as connection:
            definition = await connection.run_sync(queue_index)
    finally:
        await engine.dispose()
    assert "cluster_id, priority DESC, created_at, id" in definition
    assert "QUEUED" in definition.split("WHERE")[1]


async def test_checks_of_the_tables_stand_in_the_database(database_url: str) -> None:
    engine = create_async_engine(normalise_url(database_url))
    try:
        async with engine.connect() as connection:
            found = await connection.run_sync(check_constraints)
    finally:
        await engine.dispose()
    for name, table in Base.metadata.tables.items():
        declared = {str(c.name) for c in table.constraints if c.__visit_name__ == "check_constraint"}
        assert declared <= found[name], name
