"""Connections that PostgreSQL has ended are replaced before anybody is given them."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from hypervisor.store import pool_ping
from hypervisor.store.database import Database


@pytest.mark.parametrize("rested_seconds", [0.0, 3600.0], ids=["after a rest", "at once"])
async def test_nobody_is_given_a_connection_that_was_ended(
    postgresql_url: str, monkeypatch: pytest.MonkeyPatch, rested_seconds: float
) -> None:
    monkeypatch.setattr(pool_ping, "RESTED_SECONDS", rested_seconds)
    database, other = Database(postgresql_url), Database(postgresql_url)
    try:
        for open_session in (database.read, database.write):
            async with open_session() as session:
                await session.execute(text("SELECT 1"))
            await _end_all_but_own(other)
            async with open_session() as session:
                assert await session.scalar(text("SELECT 2")) == 2
    finally:
        await database.close()
        await other.close()


async def _end_all_but_own(database: Database) -> None:
    """Returns when they are gone."""
    ended = text(
        "SELECT count(pg_terminate_backend(pid, 60000)) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    async with database.write() as session:
        await session.execute(text("SET LOCAL statement_timeout = 0"))
        await session.execute(ended)
