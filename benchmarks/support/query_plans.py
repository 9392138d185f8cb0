"""Checks of query plans: statements that scan a large table or grow with the history, and their times."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any

from sqlalchemy import Engine, event, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from hypervisor.store.driver.address import parse_database_url

HISTORY = frozenset({"deployments", "attempts", "events", "deployment_labels", "dependencies"})
"""Tables that only grow."""
MOST_ROWS = 10_000
"""A statement that reads more rows of the history grows with it. A queue may have this length."""
LARGE = 15_000
"""Number of rows from which a sequential scan of a table is a fault."""
LONGEST_MS = 50.0
"""The limit for a page."""
_REPETITIONS, _COUNTED = 9, 3

Statements = list[tuple[str, Any]]


@contextmanager
def recorded_statements() -> Iterator[Statements]:
    """Record the SQL statements of this process in the block, with their parameters."""
    statements: Statements = []

    def record(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        statements.append((statement, parameters))

    event.listen(Engine, "before_cursor_execute", record)
    try:
        yield statements
    finally:
        event.remove(Engine, "before_cursor_execute", record)


class PlanChecker:
    """Checks recorded statements with EXPLAIN ANALYZE and repeated execution; deletions with EXPLAIN only."""

    def __init__(self, database_url: str) -> None:
        self._engine: AsyncEngine = parse_database_url(database_url).engine()

    async def close(self) -> None:
        await self._engine.dispose()

    async def check(self, statements: Statements) -> tuple[list[str], float]:
        """One sentence per statement with a bad plan, and the milliseconds of the slowest statement."""
        found: list[str] = []
        slowest = 0.0
        async with self._engine.connect() as connection:
            large = await self._large(connection)
            for statement, parameters in statements:
                kind = statement.lstrip().upper().partition(" ")[0]
                if kind not in ("SELECT", "WITH", "DELETE"):
                    continue
                plan, took = await self._run(connection, statement, parameters, dry=kind == "DELETE")
                slowest = max(slowest, took)
                if why := _fault(plan, large):
                    found.append(f"{why}: {' '.join(statement.split())[:300]}")
        return found, slowest

    async def _large(self, connection: AsyncConnection) -> set[str]:
        rows = await connection.execute(
            text("SELECT relname FROM pg_class WHERE relkind = 'r' AND reltuples >= :least"), {"least": LARGE}
        )
        return {row.relname for row in rows} & HISTORY

    async def _run(
        self, connection: AsyncConnection, statement: str, parameters: Any, *, dry: bool
    ) -> tuple[dict[str, Any], float]:
        """The plan, and the larger one of its execution time and the time of repeated execution."""
        how = "FORMAT JSON" if dry else "ANALYZE, BUFFERS, FORMAT JSON"
        result = await connection.exec_driver_sql(f"EXPLAIN ({how}) {statement}", parameters)
        document = result.scalar_one()
        (explained,) = json.loads(document) if isinstance(document, str) else document
        if dry:
            return explained["Plan"], 0.0
        return explained["Plan"], max(
            explained["Execution Time"], await self._repeated(connection, statement, parameters)
        )

    async def _repeated(self, connection: AsyncConnection, statement: str, parameters: Any) -> float:
        """Milliseconds of repeated execution. From the sixth time on, PostgreSQL may use a generic plan."""
        took: list[float] = []
        for _ in range(_REPETITIONS):
            began = perf_counter()
            (await connection.exec_driver_sql(statement, parameters)).all()
            took.append((perf_counter() - began) * 1000)
        return min(took[-_COUNTED:])


def _fault(plan: dict[str, Any], large: set[str]) -> str | None:
    for node in _nodes(plan):
        table = node.get("Relation Name")
        rows_per_loop = node.get("Actual Rows", 0) + node.get("Rows Removed by Filter", 0)
        rows = node.get("Actual Loops", 0) * rows_per_loop
        if table in large and (node["Node Type"] == "Seq Scan" or rows > MOST_ROWS):
            return f"{node['Node Type']} of {table}, {rows:.0f} rows"
    return None


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from _nodes(below)
