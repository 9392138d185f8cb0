"""Large deletions in many short transactions, so that locks are short."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from sqlalchemy import ColumnElement, CursorResult, delete, select, tuple_
from sqlalchemy.orm import InstrumentedAttribute

from hypervisor.store.database import Database, WriteSession

BATCH = 1000
MAX_BATCHES = 100
"""Upper limit per call: the rest waits for the next call, so that other work is not delayed."""


async def delete_in_batches(
    database: Database,
    key: InstrumentedAttribute[Any] | Sequence[InstrumentedAttribute[Any]],
    condition: ColumnElement[bool],
    *,
    oldest_first: InstrumentedAttribute[Any] | None = None,
    batch: int = BATCH,
) -> int:
    """Delete the rows that match `condition`, one batch per transaction. Returns the number of deleted rows.

    `key` is the primary key, one column or several. `oldest_first` is an indexed column: with it the index
    finds each batch, however large the table is.
    """
    keys = list(key) if isinstance(key, Sequence) else [key]
    matching = select(*keys).where(condition).limit(batch)
    if oldest_first is not None:
        matching = matching.order_by(oldest_first)
    statement = delete(keys[0].class_).where(
        tuple_(*keys).in_(matching) if len(keys) > 1 else keys[0].in_(matching)
    )

    async def delete_batch(session: WriteSession) -> int:
        result = await session.execute(statement, execution_options={"synchronize_session": False})
        return cast("CursorResult[Any]", result).rowcount

    total = 0
    for _ in range(MAX_BATCHES):
        deleted = await database.transact(delete_batch)
        total += deleted
        if deleted < batch:
            break
    return total
