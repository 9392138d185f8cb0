"""The shared registry of engines: which exist, the identity of each, and which are cordoned.

An engine without a network address (processes, a socket) belongs to one machine. An engine of the same name
on another machine does not run the same workloads, so its reports must not be trusted. The first holder
therefore stores the identity that its engine reports. Another identity is accepted only when no live attempt
is left on the engine.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime

from sqlalchemy import ColumnElement, and_, false, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from hypervisor.control.leases.held import engine_lease
from hypervisor.events.log import SYSTEM, record
from hypervisor.kernel.engine_ref import EngineRef
from hypervisor.store.chunks import chunks
from hypervisor.store.database import WriteSession
from hypervisor.store.inserts import insert_missing
from hypervisor.store.tables import Attempt, Cluster, Deployment, EngineState, InstanceGc, Node


async def find_engines(session: AsyncSession) -> set[EngineRef]:
    """Every engine that has a node, a live attempt or an instance to remove."""
    nodes = select(Cluster.resolved_runtime, Node.engine_endpoint).join(Node, Node.cluster_id == Cluster.id)
    live = select(Attempt.runtime, Attempt.engine_endpoint).where(Attempt.finished_at.is_(None))
    removals = select(InstanceGc.runtime, InstanceGc.engine_endpoint)
    found: set[EngineRef] = set()
    for query in (nodes, live, removals):
        found |= {EngineRef(*row) for row in await session.execute(query.distinct())}
    return found


async def registered_engines(session: AsyncSession) -> dict[str, EngineState]:
    """The rows of the registered engines, by the name of their lease."""
    return {row.name: row for row in await session.scalars(select(EngineState))}


async def register(session: WriteSession, engines: Iterable[EngineRef]) -> None:
    """Insert the missing rows of these engines."""
    for engine in sorted(engines, key=engine_lease):
        values = {"name": engine_lease(engine), "runtime": engine.runtime, "endpoint": engine.endpoint}
        await session.execute(insert_missing(session, EngineState).values(values))


async def claim_identity(session: WriteSession, engine: EngineRef, identity: str) -> bool:
    """Store the engine's identity and uncordon it. False while a live attempt runs under another identity."""
    row = await session.get(EngineState, engine_lease(engine), with_for_update=True)
    if row is None:
        return True
    if row.engine_identity not in (None, identity) and await has_live_attempt(session, engine):
        return False
    row.engine_identity, row.cordoned_since = identity, None
    return True


async def release_identity(session: WriteSession, engine: EngineRef, now: datetime) -> bool:
    """Forget the identity of an engine whose machine is lost: another machine may use its name.

    The next holder takes the engine over and finds its live attempts lost. Writes an event for each
    organization that has one. False if no engine of this name has an identity.
    """
    row = await session.get(EngineState, engine_lease(engine), with_for_update=True)
    if row is None or row.engine_identity is None:
        return False
    row.engine_identity, row.cordoned_since = None, None
    affected = (
        select(Deployment.organization_id)
        .join(Attempt, Attempt.deployment_id == Deployment.id)
        .where(Attempt.finished_at.is_(None), on_engines(Attempt.runtime, Attempt.engine_endpoint, [engine]))
        .distinct()
    )
    for organization_id in await session.scalars(affected):
        record(
            session,
            organization_id=organization_id,
            at=now,
            actor=SYSTEM,
            type="engine.released",
            message=f"An operator gave up the machine of the engine {engine}; its attempts are lost.",
        )
    return True


async def has_live_attempt(session: AsyncSession, engine: EngineRef) -> bool:
    """Whether a live attempt is on the engine. Ended instances that are not removed yet do not count."""
    on_engine = on_engines(Attempt.runtime, Attempt.engine_endpoint, [engine])
    found = await session.scalar(select(Attempt.id).where(Attempt.finished_at.is_(None), on_engine).limit(1))
    return found is not None


async def cordon(session: WriteSession, names: Collection[str], now: datetime) -> None:
    """Cordon these engines: the scheduler places nothing new on them."""
    for chunk in chunks(sorted(names)):
        await session.execute(
            update(EngineState)
            .where(EngineState.name.in_(chunk), EngineState.cordoned_since.is_(None))
            .values(cordoned_since=now)
        )


async def uncordon(session: WriteSession, names: Collection[str]) -> None:
    """Let the scheduler place attempts on these engines again."""
    for chunk in chunks(sorted(names)):
        await session.execute(
            update(EngineState)
            .where(EngineState.name.in_(chunk), EngineState.cordoned_since.is_not(None))
            .values(cordoned_since=None)
        )


def on_engines(
    runtime: InstrumentedAttribute[str],
    endpoint: InstrumentedAttribute[str | None],
    engines: Iterable[EngineRef],
) -> ColumnElement[bool]:
    """The condition that a row belongs to one of these engines."""
    endpoints: dict[str, set[str | None]] = {}
    for engine in engines:
        endpoints.setdefault(engine.runtime, set()).add(engine.endpoint)
    return or_(false(), *(_of_runtime(runtime, endpoint, name, at) for name, at in endpoints.items()))


def _of_runtime(
    runtime: InstrumentedAttribute[str],
    endpoint: InstrumentedAttribute[str | None],
    name: str,
    addresses: Collection[str | None],
) -> ColumnElement[bool]:
    at_address = endpoint.in_([address for address in addresses if address is not None])
    return and_(runtime == name, or_(at_address, endpoint.is_(None)) if None in addresses else at_address)
