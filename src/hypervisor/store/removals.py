"""Deletion of attempts: their instances are queued for garbage collection in the same transaction.

Deletions that are too large for one transaction are detected here and left to maintenance.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ColumnElement, exists, insert, literal, select, true, update
from sqlalchemy.orm import InstrumentedAttribute

from hypervisor.store.database import WriteSession
from hypervisor.store.tables import Attempt, InstanceGc

MAX_ROWS_PER_REQUEST = 5_000
"""Maximum rows that one request deletes. Maintenance deletes larger sets in many short transactions."""


async def exceed_one_request(
    session: WriteSession, key: InstrumentedAttribute[int], condition: ColumnElement[bool]
) -> bool:
    """Whether more than MAX_ROWS_PER_REQUEST rows match."""
    return (
        await session.scalar(select(key).where(condition).offset(MAX_ROWS_PER_REQUEST).limit(1)) is not None
    )


async def enqueue_instance_gc(session: WriteSession, condition: ColumnElement[bool], now: datetime) -> None:
    """Queue the instances of these attempts for removal by their runtimes, with their logs."""
    await session.flush()
    instances = select(Attempt.instance).where(condition)
    await session.execute(
        update(InstanceGc).where(InstanceGc.instance.in_(instances)).values(purge_logs=True)
    )
    is_queued = exists().where(InstanceGc.instance == Attempt.instance)
    await session.execute(
        insert(InstanceGc).from_select(
            ["instance", "runtime", "engine_endpoint", "purge_logs", "created_at"],
            select(
                Attempt.instance,
                Attempt.runtime,
                Attempt.engine_endpoint,
                true(),
                literal(now, InstanceGc.created_at.type),
            ).where(condition, ~is_queued),
        )
    )
