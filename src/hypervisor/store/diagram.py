"""The tables as a Mermaid entity-relationship diagram.

`python -m hypervisor.store.diagram > docs/schema.md` writes the page; a test fails when it is outdated.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator

from sqlalchemy import Column, Table, UniqueConstraint

from hypervisor.store import tables as _registered  # noqa: F401  (fills the metadata)
from hypervisor.store.base import Base

_HEAD = """\
# The database

Generated from the tables in `src/hypervisor/store/tables/` by
`python -m hypervisor.store.diagram > docs/schema.md`; a test fails when this page is outdated.

PK is a primary key, FK a foreign key, UK a unique column; `?` marks a nullable column. Amounts are integers:
thousandths of a core, MiB, thousandths of a GPU. Times are in UTC.
"""

_SHORT_TYPES = {"BIGINT": "bigint", "INTEGER": "int", "DATETIME": "time", "TEXT": "text", "BOOLEAN": "bool"}


def render() -> str:
    """The whole page: one diagram of all tables, in alphabetical order."""
    all_tables = sorted(Base.metadata.tables.values(), key=lambda table: table.name)
    lines = [_HEAD, "```mermaid", "erDiagram"]
    for table in all_tables:
        lines.extend(_relations(table))
    for table in all_tables:
        lines.extend(_entity(table))
    return "\n".join([*lines, "```"]) + "\n"


def _relations(table: Table) -> Iterator[str]:
    for constraint in sorted(table.foreign_key_constraints, key=lambda key: ",".join(key.column_keys)):
        child_end = "|" if _is_unique(table, constraint.column_keys) else "{"
        parent_end = "o|" if any(column.nullable for column in constraint.columns) else "||"
        label = ", ".join(constraint.column_keys)
        yield f'    {constraint.referred_table.name} {parent_end}--o{child_end} {table.name} : "{label}"'


def _entity(table: Table) -> Iterator[str]:
    yield f"    {table.name} {{"
    for column in table.columns:
        marks = ",".join(_keys(table, column))
        comment = ' "?"' if column.nullable else ""
        yield f"        {_type_name(column)} {column.name}{' ' + marks if marks else ''}{comment}"
    yield "    }"


def _keys(table: Table, column: Column[object]) -> Iterator[str]:
    if column.primary_key:
        yield "PK"
    if column.foreign_keys:
        yield "FK"
    if not column.primary_key and _is_unique(table, [column.name]):
        yield "UK"


def _is_unique(table: Table, names: Iterable[str]) -> bool:
    """Whether exactly these columns are unique. Partial unique indexes do not count."""
    expected = set(names)
    constraints = [table.primary_key, *(c for c in table.constraints if isinstance(c, UniqueConstraint))]
    return any({column.name for column in constraint.columns} == expected for constraint in constraints)


def _type_name(column: Column[object]) -> str:
    """The column's type as one Mermaid word, for example "string(64)". "time" is always in UTC."""
    name = str(column.type)
    if match := re.fullmatch(r"VARCHAR\((\d+)\)", name):
        return f"string({match[1]})"
    return _SHORT_TYPES.get(name.split(" ")[0], name.lower())


if __name__ == "__main__":
    sys.stdout.write(render())
