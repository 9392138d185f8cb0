"""Draw the tables as a Mermaid entity-relationship diagram.

`python -m hypervisor.store.diagram > docs/schema.md` writes the page that a test keeps current.
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
`python -m hypervisor.store.diagram > docs/schema.md`; a test fails when this page is not current.

PK is a primary key, FK a foreign key, UK a column that is unique by itself; `?` marks a column that may be
empty. Amounts are integers: thousandths of a core, MiB, thousandths of a GPU. Times are in UTC.
"""

_SHORT_TYPES = {"BIGINT": "bigint", "INTEGER": "int", "DATETIME": "time", "TEXT": "text", "BOOLEAN": "bool"}


def render() -> str:
    """The whole page: one diagram of every table, in alphabetical order."""
    everything = sorted(Base.metadata.tables.values(), key=lambda table: table.name)
    lines = [_HEAD, "```mermaid", "erDiagram"]
    for table in everything:
        lines.extend(_relations(table))
    for table in everything:
        lines.extend(_entity(table))
    return "\n".join([*lines, "```"]) + "\n"


def _relations(table: Table) -> Iterator[str]:
    for constraint in sorted(table.foreign_key_constraints, key=lambda one: ",".join(one.column_keys)):
        many = "|" if _is_unique(table, constraint.column_keys) else "{"
        one = "o|" if any(column.nullable for column in constraint.columns) else "||"
        label = ", ".join(constraint.column_keys)
        yield f'    {constraint.referred_table.name} {one}--o{many} {table.name} : "{label}"'


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
    """Whether these columns, all of them and no others, are unique (not only where a condition holds)."""
    wanted = set(names)
    constraints = [table.primary_key, *(c for c in table.constraints if isinstance(c, UniqueConstraint))]
    return any({column.name for column in constraint.columns} == wanted for constraint in constraints)


def _type_name(column: Column[object]) -> str:
    """The column's type as one Mermaid word: "string(64)" keeps its length, "time" is always in UTC."""
    name = str(column.type)
    if match := re.fullmatch(r"VARCHAR\((\d+)\)", name):
        return f"string({match[1]})"
    return _SHORT_TYPES.get(name.split(" ")[0], name.lower())


if __name__ == "__main__":
    sys.stdout.write(render())
