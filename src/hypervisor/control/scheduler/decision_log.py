"""Keeping what a pass saw and decided, so that it can be replayed; and forgetting it again in time."""

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

DELETED_AT_ONCE = 100
"""Decisions in one transaction; each may be large."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Retention:
    """How long decisions are kept, and how many bytes all of them may take. No `hours` keeps none."""

    hours: float = 24.0
    most_bytes: int = 512 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Decided:
    """A plan, and what is to be stored of it: nothing where it changes nothing or nothing is kept."""

    plan: Plan
    stored: Encoded | None = None
    plan_hash: str = ""


def decide(view: ClusterView, retention: Retention, watch: SearchObserver | None = None) -> Decided:
    """Plan, and encode what was seen in the same thread."""
    policy = _workable(view.policy)
    made = plan(view.snapshot, policy, watch)
    if not retention.hours or not changes_something(view, made):
        return Decided(made)
    return Decided(made, encode(view.snapshot, policy), plan_digest(made))


def _workable(policy: Policy) -> Policy:
    """With the search instead of a solver that is installed but cannot be loaded: passes must go on."""
    try:
        load_solvers(policy.solver)
    except SolverNotInstalled as error:
        log.warning("scheduler.solver_broken", instead="search", error=str(error.__cause__))
        return replace(policy, solver="search")
    return policy


def changes_something(view: ClusterView, made: Plan) -> bool:
    """Whether there is anything to commit."""
    return bool(made.placements or made.evictions) or set(view.snapshot.nominations) != set(made.nominations)


def store_decision(
    session: WriteSession, view: ClusterView, decided: Decided, *, epoch: int, now: datetime
) -> None:
    """Add the decision to the transaction that makes it true."""
    if decided.stored is None:
        return
    made = decided.plan
    session.add(
        Decision(
            cluster_id=view.cluster_id,
            at=now,
            epoch=epoch,
            snapshot_hash=decided.stored.digest,
            plan_hash=decided.plan_hash,
            placements=len(made.placements),
            evictions=len(made.evictions),
            nominations=len(made.nominations),
            waiting=len(made.unplaced),
            snapshot=decided.stored.blob,
            snapshot_bytes=len(decided.stored.blob),
        )
    )


async def forget_decisions(database: Database, retention: Retention, now: datetime) -> None:
    """Delete the decisions that are too old, and the oldest ones beyond the size that all may have."""
    old = Decision.at < now - timedelta(hours=retention.hours)
    await delete_in_batches(database, Decision.id, old, oldest_first=Decision.at, batch=DELETED_AT_ONCE)
    newer = func.sum(Decision.snapshot_bytes).over(order_by=Decision.id.desc()).label("newer")
    sizes = select(Decision.id, newer).subquery()
    async with database.read() as session:
        last = await session.scalar(select(func.max(sizes.c.id)).where(sizes.c.newer > retention.most_bytes))
    if last is not None:
        await delete_in_batches(database, Decision.id, Decision.id <= last, batch=DELETED_AT_ONCE)
