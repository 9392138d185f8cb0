"""Fields that have a column of the same name: requests, responses and launch specs copy these by name."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import cast

from sqlalchemy import Table
from sqlalchemy.types import JSON

from hypervisor.store.base import Base


def same_named(table: type[Base], names: Iterable[str]) -> tuple[str, ...]:
    """The names of which the table has columns, in their order."""
    columns = cast(Table, table.__table__).columns
    return tuple(name for name in names if name in columns)


def stored_fields(table: type[Base], names: Iterable[str], converted: Collection[str]) -> tuple[str, ...]:
    """The fields of a request that are stored as they are: all but the `converted` ones.

    Raises TypeError for a field that is neither a column nor converted: it would be accepted and lost.
    """
    left = tuple(name for name in names if name not in converted)
    found = same_named(table, left)
    if lost := sorted(set(left) - set(found)):
        raise TypeError(
            f"{', '.join(lost)}: add a column of this name to {table.__name__}, or declare the conversion"
        )
    return found


def nullable(table: type[Base], names: Iterable[str]) -> frozenset[str]:
    """The columns that may be NULL."""
    columns = cast(Table, table.__table__).columns
    return frozenset(name for name in names if columns[name].nullable)


def collections(table: type[Base], names: Iterable[str]) -> frozenset[str]:
    """The columns that hold lists or mappings; an empty one is stored as NULL."""
    columns = cast(Table, table.__table__).columns
    return frozenset(name for name in names if isinstance(columns[name].type, JSON))
