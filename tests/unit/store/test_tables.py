"""Rules for every table."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import ForeignKeyConstraint, Table

from hypervisor.store.base import Base
from hypervisor.store.tables import Attempt


def test_every_cascading_foreign_key_has_an_index() -> None:
    """Otherwise each deletion of a referenced row reads the whole table."""
    tables = Base.metadata.sorted_tables
    assert Attempt.__table__ in tables
    unindexed = [
        f"{table.name}.{constraint.column_keys[0]}"
        for table in tables
        for constraint in table.foreign_key_constraints
        if constraint.ondelete == "CASCADE" and not any(_leads(constraint, key) for key in _keys(table))
    ]
    assert unindexed == []


def _keys(table: Table) -> Iterator[list[str]]:
    yield [column.name for column in table.primary_key]
    for index in table.indexes:
        # A partial index does not find all rows.
        if index.dialect_options["postgresql"]["where"] is None:
            yield [getattr(column, "name", "") for column in index.expressions]


def _leads(constraint: ForeignKeyConstraint, columns: list[str]) -> bool:
    return columns[: len(constraint.column_keys)] == list(constraint.column_keys)
