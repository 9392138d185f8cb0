"""INSERT that skips existing rows."""

from __future__ import annotations

from sqlalchemy import Insert
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from hypervisor.store.base import Base


def insert_missing(session: AsyncSession, table: type[Base]) -> Insert:
    """INSERT ... ON CONFLICT DO NOTHING in the dialect of the session."""
    if session.get_bind().dialect.name == "sqlite":
        return sqlite.insert(table).on_conflict_do_nothing()
    return postgresql.insert(table).on_conflict_do_nothing()
