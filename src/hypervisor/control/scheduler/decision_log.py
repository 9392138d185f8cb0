"""Stored decisions: the snapshot and the result of a pass, so that it can be replayed; their retention."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import structlog
from sqlalchemy import func, select

from hypervisor.control.scheduler.snapshot_loader import ClusterView
from hypervisor.scheduling.decision_codec.encoding import Encoded, encode, plan_digest
from hypervisor.scheduling.plan import plan
from hypervisor.scheduling.plan_result import Plan
from hypervisor.scheduling.policy import Policy
from hypervisor.scheduling.repacking.budget import SearchObserver
from hypervisor.scheduling.repacking.solvers import SolverNotInstalled, load_solvers
from hypervisor.store.batches import delete_in_batches
from hypervisor.store.database import Database, WriteSession
from hypervisor.store.tables import Decision

DELETE_BATCH = 100
"""Decisions deleted in one transaction; each may be large."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class DecisionRetention:
    """The maximum age of decisions and the maximum size of all of them. With `hours` 0 none is stored."""

    hours: float = 24.0
    max_bytes: int = 512 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class PlannedDecision:
    """A plan with its encoded snapshot; the latter is None where the decision is not stored."""

    plan: Plan
    encoded: Encoded | None = None
    plan_hash: str = ""


def decide(
    view: ClusterView, retention: DecisionRetention, observer: SearchObserver | None = None
) -> PlannedDecision:
    """Plan, and encode the snapshot in the same thread."""
    policy = _with_loadable_solver(view.policy)
    result = plan(view.snapshot, policy, observer)
    if not retention.hours or not changes_something(view, result):
        return PlannedDecision(result)
    return PlannedDecision(result, encode(view.snapshot, policy), plan_digest(result))


def _with_loadable_solver(policy: Policy) -> Policy:
    """The policy, with the search instead of a solver that is installed but cannot be loaded."""
    try:
        load_solvers(policy.solver)
    except SolverNotInstalled as error:
        log.warning("scheduler.solver_broken", instead="search", error=str(error.__cause__))
        return replace(policy, solver="search")
    return policy


def changes_something(view: ClusterView, result: Plan) -> bool:
    """Whether there is anything to commit."""
    return bool(result.placements or result.evictions) or set(view.snapshot.nominations) != set(
        result.nominations
    )


def store_decision(
    session: WriteSession, view: ClusterView, decision: PlannedDecision, *, epoch: int, now: datetime
) -> None:
    """Add the decision to the transaction that commits its plan."""
    if decision.encoded is None:
        return
    result = decision.plan
    session.add(
        Decision(
            cluster_id=view.cluster_id,
            at=now,
            epoch=epoch,
            snapshot_hash=decision.encoded.digest,
            plan_hash=decision.plan_hash,
            placements=len(result.placements),
            evictions=len(result.evictions),
            nominations=len(result.nominations),
            waiting=len(result.unplaced),
            snapshot=decision.encoded.blob,
            snapshot_bytes=len(decision.encoded.blob),
        )
    )


async def delete_expired_decisions(database: Database, retention: DecisionRetention, now: datetime) -> None:
    """Delete the decisions over the maximum age, and the oldest ones beyond the maximum size."""
    old = Decision.at < now - timedelta(hours=retention.hours)
    await delete_in_batches(database, Decision.id, old, oldest_first=Decision.at, batch=DELETE_BATCH)
    newer = func.sum(Decision.snapshot_bytes).over(order_by=Decision.id.desc()).label("newer")
    sizes = select(Decision.id, newer).subquery()
    async with database.read() as session:
        last = await session.scalar(select(func.max(sizes.c.id)).where(sizes.c.newer > retention.max_bytes))
    if last is not None:
        await delete_in_batches(database, Decision.id, Decision.id <= last, batch=DELETE_BATCH)
