"""Deleting what deployments leave behind: instances that runtimes are to forget are listed in the transaction
that deletes their attempts; what is too much for one transaction is told apart.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ColumnElement, exists, insert, literal, select, true, update
from sqlalchemy.orm import InstrumentedAttribute

from hypervisor.store.database import WriteSession
from hypervisor.store.tables import Attempt, InstanceGc

MOST_AT_ONCE = 5_000
"""Rows that one request deletes; more are deleted by maintenance, in many short transactions."""


async def are_many(
    session: WriteSession, key: InstrumentedAttribute[int], which: ColumnElement[bool]
) -> bool:
    """Whether more rows match than one transaction should delete."""
    return await session.scalar(select(key).where(which).offset(MOST_AT_ONCE).limit(1)) is not None


async def forget_attempts(session: WriteSession, which: ColumnElement[bool], now: datetime) -> None:
    """Have the runtimes forget the instances of these attempts, logs included, once this is committed."""
    await session.flush()
    instances = select(Attempt.instance).where(which)
    await session.execute(
        update(InstanceGc).where(InstanceGc.instance.in_(instances)).values(purge_logs=True)
    )
    known = exists().where(InstanceGc.instance == Attempt.instance)
    await session.execute(
        insert(InstanceGc).from_select(
            ["instance", "runtime", "engine_endpoint", "purge_logs", "created_at"],
            select(
                Attempt.instance,
                Attempt.runtime,
                Attempt.engine_endpoint,
                true(),
                literal(now, InstanceGc.created_at.type),
            ).where(which, ~known),
        )
    )
