"""Connections that PostgreSQL has ended are replaced at checkout."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from hypervisor.store import pool_ping
from hypervisor.store.database import Database


@pytest.mark.parametrize("idle_seconds", [0.0, 3600.0], ids=["after idle time", "at once"])
async def test_an_ended_connection_is_never_handed_out(
    postgresql_url: str, monkeypatch: pytest.MonkeyPatch, idle_seconds: float
) -> None:
    monkeypatch.setattr(pool_ping, "IDLE_SECONDS", idle_seconds)
    database, other = Database(postgresql_url), Database(postgresql_url)
    try:
        for open_session in (database.read, database.write):
            async with open_session() as session:
                await session.execute(text("SELECT 1"))
            await _end_other_connections(other)
            async with open_session() as session:
                assert await session.scalar(text("SELECT 2")) == 2
    finally:
        await database.close()
        await other.close()


async def _end_other_connections(database: Database) -> None:
    """End all other connections to the database, and wait until they are gone."""
    ended = text(
        "SELECT count(pg_terminate_backend(pid, 60000)) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    async with database.write() as session:
        await session.execute(text("SET LOCAL statement_timeout = 0"))
        await session.execute(ended)
