"""Priority inheritance: a deployment that waits passes its priority to its dependencies, along the chain."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import bindparam, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from hypervisor.lifecycle.dependencies import Condition
from hypervisor.lifecycle.states import LIVE, WAITING, State
from hypervisor.store.tables import Allocation, Dependency, Deployment

_CHILD, _PARENT = aliased(Deployment), aliased(Deployment)
# Built once: every scheduler pass runs it, and aliases are expensive to build.
_WAITS = (
    select(_CHILD.id, _CHILD.priority, _PARENT.id.label("parent_id"))
    .join(Dependency, Dependency.deployment_id == _CHILD.id)
    .join(_PARENT, _PARENT.id == Dependency.depends_on_id)
    .where(
        _CHILD.cluster_id == bindparam("cluster_id"),
        _CHILD.state == State.BLOCKED.value,
        _PARENT.state.in_([state.value for state in WAITING | LIVE]),
        or_(
            Dependency.condition == Condition.SUCCEEDED.value,
            _PARENT.state != State.RUNNING.value,
        ),
    )
)
# A queued child still needs its running parents. The query starts from what runs, fewer rows than the queue:
# "+ 0" keeps SQLite from starting with the index on the cluster.
_NEEDS_RUNNING = (
    select(_CHILD.id, _CHILD.priority, Dependency.depends_on_id.label("parent_id"))
    .select_from(Dependency)
    .join(_CHILD, _CHILD.id == Dependency.deployment_id)
    .where(
        Dependency.condition == Condition.RUNNING.value,
        Dependency.depends_on_id.in_(
            select(Allocation.deployment_id).where(Allocation.cluster_id == bindparam("cluster_id"))
        ),
        _CHILD.cluster_id + 0 == bindparam("cluster_id"),
        _CHILD.state == State.QUEUED.value,
    )
)


@dataclass(frozen=True, slots=True)
class Waits:
    """One dependency of a deployment that waits: `priority` is that of the child."""

    child_id: int
    priority: int
    parent_id: int


@dataclass(frozen=True, slots=True)
class Inherited:
    """The highest priority among the dependents of a deployment, and the id of that dependent."""

    priority: int
    from_id: int


async def inherited_priorities(session: AsyncSession, cluster_id: int) -> dict[int, Inherited]:
    """Inherited priorities by deployment, for the parents of waiting deployments of the cluster; two queries.

    A parent that must run keeps the priority of its children until they start: they must not evict it.
    """
    blocked = await session.execute(_WAITS, {"cluster_id": cluster_id})
    queued = await session.execute(_NEEDS_RUNNING, {"cluster_id": cluster_id})
    return inherit(Waits(*row) for row in [*blocked, *queued])


async def inherited_in_queue(session: AsyncSession, cluster_id: int) -> dict[int, Inherited]:
    """Inherited priorities of parents that wait, which only blocked children pass on; one query."""
    rows = await session.execute(_WAITS, {"cluster_id": cluster_id})
    return inherit(Waits(*row) for row in rows)


def inherit(waits: Iterable[Waits]) -> dict[int, Inherited]:
    """The highest priority that reaches each parent; the lower id wins a tie.

    Walks from the highest priority down and visits each deployment once: linear in the edges after sorting.
    """
    parents: dict[int, list[int]] = defaultdict(list)
    priority: dict[int, int] = {}
    for wait in waits:
        parents[wait.child_id].append(wait.parent_id)
        priority[wait.child_id] = wait.priority
    found: dict[int, Inherited] = {}
    for child in sorted(priority, key=lambda id_: (-priority[id_], id_)):
        stack = list(parents[child])
        while stack:
            parent = stack.pop()
            if parent not in found:
                found[parent] = Inherited(priority[child], child)
                stack += parents.get(parent, ())
    return found
