"""Whether statements grow with the history: what PostgreSQL reads for them, and how long that takes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any

from sqlalchemy import Engine, event, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from hypervisor.store.database import normalise_url

HISTORY = frozenset({"deployments", "attempts", "events", "deployment_labels", "dependencies"})
"""Tables that only grow."""
MOST_ROWS = 10_000
"""A statement that looks at more rows of the history than this grows with it. Queues may be that long."""
LARGE = 15_000
"""Rows that a table has at least before reading it from end to end counts as a fault."""
LONGEST_MS = 50.0
"""For a page."""
_TIMES, _COUNTED = 9, 3

Heard = list[tuple[str, Any]]


@contextmanager
def heard() -> Iterator[Heard]:
    """The statements of this process, with their parameters, until the end of the block."""
    statements: Heard = []

    def hear(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        statements.append((statement, parameters))

    event.listen(Engine, "before_cursor_execute", hear)
    try:
        yield statements
    finally:
        event.remove(Engine, "before_cursor_execute", hear)


class Judge:
    """Looks at statements that were heard: EXPLAIN ANALYZE for the parameters that they had, and how long
    they take when they are asked again and again. Deletions are only planned.
    """

    def __init__(self, database_url: str) -> None:
        self._engine: AsyncEngine = create_async_engine(normalise_url(database_url))

    async def close(self) -> None:
        await self._engine.dispose()

    async def look(self, statements: Heard) -> tuple[list[str], float]:
        """Why statements are bad, one sentence each, and the milliseconds of the slowest one."""
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
        """The plan, and the longer of the times by it and when it is asked again and again."""
        how = "FORMAT JSON" if dry else "ANALYZE, BUFFERS, FORMAT JSON"
        told = await connection.exec_driver_sql(f"EXPLAIN ({how}) {statement}", parameters)
        answer = told.scalar_one()
        (explained,) = json.loads(answer) if isinstance(answer, str) else answer
        if dry:
            return explained["Plan"], 0.0
        return explained["Plan"], max(
            explained["Execution Time"], await self._again(connection, statement, parameters)
        )

    async def _again(self, connection: AsyncConnection, statement: str, parameters: Any) -> float:
        """Milliseconds when it was asked often: from the sixth time on the database may take one plan for any
        parameters.
        """
        took: list[float] = []
        for _ in range(_TIMES):
            began = perf_counter()
            (await connection.exec_driver_sql(statement, parameters)).all()
            took.append((perf_counter() - began) * 1000)
        return min(took[-_COUNTED:])


def _fault(plan: dict[str, Any], large: set[str]) -> str | None:
    for node in _nodes(plan):
        table = node.get("Relation Name")
        each = node.get("Actual Rows", 0) + node.get("Rows Removed by Filter", 0)
        looked_at = node.get("Actual Loops", 0) * each
        if table in large and (node["Node Type"] == "Seq Scan" or looked_at > MOST_ROWS):
            return f"{node['Node Type']} of {table}, {looked_at:.0f} rows"
    return None


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from _nodes(below)
