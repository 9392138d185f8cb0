"""The statements that a database executes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event

from hypervisor.store.database import Database


@contextmanager
def statements_of(database: Database) -> Iterator[list[str]]:
    """A list that collects the SQL executed during the block, from all tasks."""
    statements: list[str] = []

    def record(*arguments: Any) -> None:
        statements.append(arguments[2])

    # On PostgreSQL the engine for reads is a variant of the other and notifies its listeners.
    of_reads = [database._read_engine.sync_engine] if database.is_sqlite else []
    engines = [database._write_engine.sync_engine, *of_reads]
    for engine in engines:
        event.listen(engine, "before_cursor_execute", record)
    try:
        yield statements
    finally:
        for engine in engines:
            event.remove(engine, "before_cursor_execute", record)
