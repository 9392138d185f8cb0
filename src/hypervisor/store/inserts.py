"""An INSERT that leaves alone what is there already."""

from __future__ import annotations

from importlib import import_module

from sqlalchemy import Insert
from sqlalchemy.ext.asyncio import AsyncSession

from hypervisor.store.base import Base


def insert_missing(session: AsyncSession, table: type[Base]) -> Insert:
    """INSERT ... ON CONFLICT DO NOTHING, which each dialect says for itself.

    Only the dialect at hand is loaded: the other one takes megabytes.
    """
    dialect = import_module(f"sqlalchemy.dialects.{session.get_bind().dialect.name}")
    statement: Insert = dialect.insert(table).on_conflict_do_nothing()
    return statement
