"""Deleting much without holding locks for long: many short transactions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from sqlalchemy import ColumnElement, CursorResult, delete, select, tuple_
from sqlalchemy.orm import InstrumentedAttribute

from hypervisor.store.database import Database, WriteSession

BATCH = 1000
MOST_BATCHES = 100
"""What is left after so many waits for the next call: nobody else should wait behind one big clean-up."""


async def delete_in_batches(
    database: Database,
    key: InstrumentedAttribute[Any] | Sequence[InstrumentedAttribute[Any]],
    which: ColumnElement[bool],
    *,
    oldest_first: InstrumentedAttribute[Any] | None = None,
    batch: int = BATCH,
) -> int:
    """Delete the rows of a table that match, a batch in a transaction; how many went. `key` is its primary
    key, of one column or several.

    `oldest_first` is an indexed column: with it a batch is found by the index, however large the table is.
    """
    keys = list(key) if isinstance(key, Sequence) else [key]
    found = select(*keys).where(which).limit(batch)
    if oldest_first is not None:
        found = found.order_by(oldest_first)
    statement = delete(keys[0].class_).where(
        tuple_(*keys).in_(found) if len(keys) > 1 else keys[0].in_(found)
    )

    async def one(session: WriteSession) -> int:
        done = await session.execute(statement, execution_options={"synchronize_session": False})
        return cast("CursorResult[Any]", done).rowcount

    total = 0
    for _ in range(MOST_BATCHES):
        gone = await database.transact(one)
        total += gone
        if gone < batch:
            break
    return total
