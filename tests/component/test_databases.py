"""The database fixtures: each test gets a separate migrated database."""

from __future__ import annotations

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg"}


@pytest.mark.parametrize("turn", [1, 2])
async def test_each_test_has_a_new_migrated_database(database_url: str, backend: str, turn: int) -> None:
    engine = create_async_engine(database_url.replace(backend, DRIVERS[backend], 1))
    try:
        async with engine.begin() as connection:
            versions = await connection.scalar(text("SELECT count(*) FROM alembic_version"))
            # Fails in the second turn if both turns share a database.
            await connection.execute(text("CREATE TABLE scratch (turn INTEGER)"))
    finally:
        await engine.dispose()

    assert versions == 1
