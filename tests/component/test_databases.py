"""The fixtures that every store test stands on: each test gets a migrated database that nobody else sees."""

from __future__ import annotations

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg"}


@pytest.mark.parametrize("turn", [1, 2])
async def test_each_test_has_a_fresh_migrated_database(database_url: str, backend: str, turn: int) -> None:
    engine = create_async_engine(database_url.replace(backend, DRIVERS[backend], 1))
    try:
        async with engine.begin() as connection:
            versions = await connection.scalar(text("SELECT count(*) FROM alembic_version"))
            # Fails in the second turn if it saw the database of the first.
            await connection.execute(text("CREATE TABLE mine (turn INTEGER)"))
    finally:
        await engine.dispose()

    assert versions == 1
