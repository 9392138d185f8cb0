"""What is asked of a database while something happens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event

from hypervisor.store.database import Database


@contextmanager
def statements_of(database: Database) -> Iterator[list[str]]:
    """The SQL that is executed in the block, by whomever; it grows as it happens."""
    seen: list[str] = []

    def note(*arguments: Any) -> None:
        seen.append(arguments[2])

    # On PostgreSQL the one for reads is a variant of the other and tells its listeners.
    of_reads = [database._read_engine.sync_engine] if database.is_sqlite else []
    engines = [database._write_engine.sync_engine, *of_reads]
    for engine in engines:
        event.listen(engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        for engine in engines:
            event.remove(engine, "before_cursor_execute", note)
