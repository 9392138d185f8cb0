"""The effect of the states of parents on the deployments that wait: blocked, queued or ended."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from sqlalchemy import and_, bindparam, or_, select
from sqlalchemy.orm import aliased

from hypervisor.deployments.access import repository
from hypervisor.deployments.state.dependencies import (
    DependencySummary,
    is_unmet,
    load_parents,
    summarize_dependencies,
)
from hypervisor.deployments.state.transitions import move, set_reason
from hypervisor.lifecycle.dependencies import DependencyStatus
from hypervisor.lifecycle.states import ENDED, State
from hypervisor.store.chunks import chunks
from hypervisor.store.database import WriteSession
from hypervisor.store.tables import Dependency, Deployment


async def settle_dependents(
    session: WriteSession, parent_ids: Collection[int], *, now: datetime, actor: str
) -> None:
    """Re-evaluate every waiting deployment that depends on one of `parent_ids`, down the whole subtree.

    Call it in each transaction that changes the state of a parent.
    """
    await session.flush()
    level = set(parent_ids)
    while level:
        level = await settle(session, await _affected_children(session, level), now=now, actor=actor)


async def settle(
    session: WriteSession, waiting: Sequence[Deployment], *, now: datetime, actor: str
) -> set[int]:
    """Apply their dependencies to locked deployments that wait; the ids of those that ended.

    With all dependencies met it is queued, else blocked. Where a parent has failed, `on_failure` decides:
    "cancel" ends it, "hold" blocks it with the reason. One that leaves the queue loses its nominations.
    """
    parents = await load_parents(session, [one.id for one in waiting])
    left_queue = []
    for one in waiting:
        was_queued = one.state == State.QUEUED.value
        _settle(session, one, summarize_dependencies(parents.get(one.id, ())), now, actor)
        if was_queued and one.state != State.QUEUED.value:
            left_queue.append(one.id)
    await repository.drop_nominations(session, left_queue)
    await session.flush()
    return {one.id for one in waiting if State(one.state) in ENDED}


async def cancel_dependents(
    session: WriteSession, parent_ids: Collection[int], *, now: datetime, actor: str
) -> None:
    """Cancel every BLOCKED deployment with an unmet dependency on one of `parent_ids`, before their deletion.

    This includes those with `on_failure` "hold": the dependency can no longer be met. A child whose
    dependency on these parents is met stays blocked on its other parents.
    """
    await session.flush()
    deleted = set(parent_ids)
    affected = await _affected_children(session, parent_ids)
    parents = await load_parents(session, [child.id for child in affected])
    children = [
        child
        for child in affected
        if any(p.id in deleted and p.status is not DependencyStatus.MET for p in parents[child.id])
    ]
    for child in children:
        move(
            session,
            child,
            State.CANCELLED,
            now=now,
            actor=actor,
            code="dependency_deleted",
            sentence="a deployment that it depends on was deleted",
        )
    if children:
        await settle_dependents(session, [child.id for child in children], now=now, actor=actor)


async def _affected_children(session: WriteSession, parent_ids: Collection[int]) -> list[Deployment]:
    """The blocked children of these parents, and the queued ones that one of them blocks; locked."""
    children: dict[int, Deployment] = {}
    for chunk in chunks(sorted(parent_ids)):
        rows = await session.scalars(_AFFECTED_CHILDREN, {"parents": chunk})
        children.update((row.id, row) for row in rows)
    return list(children.values())


_PARENT = aliased(Deployment)
_ANY_EDGE = select(Dependency.deployment_id).where(
    Dependency.depends_on_id.in_(bindparam("parents", expanding=True))
)
_UNMET_EDGE = _ANY_EDGE.join(_PARENT, _PARENT.id == Dependency.depends_on_id).where(is_unmet(_PARENT))
# Built once: every change of state runs it.
_AFFECTED_CHILDREN = (
    select(Deployment)
    .where(
        Deployment.id.in_(_ANY_EDGE),
        or_(
            Deployment.state == State.BLOCKED.value,
            and_(Deployment.state == State.QUEUED.value, Deployment.id.in_(_UNMET_EDGE)),
        ),
    )
    .order_by(Deployment.id)
    .with_for_update()
)


def _settle(
    session: WriteSession, child: Deployment, summary: DependencySummary, now: datetime, actor: str
) -> None:
    target, code, sentence, data = summary.state, summary.code, summary.sentence, None
    if summary.broken_by is not None and child.on_failure == "cancel":
        target, data = State.CANCELLED, {"dependency": summary.broken_by.id}
    elif target is State.QUEUED:
        code, sentence = "dependencies_met", "all dependencies are met; waits for its turn"
    elif child.state == State.QUEUED.value:
        sentence = f"left the queue: {sentence}"
    if target.value != child.state:
        move(session, child, target, now=now, actor=actor, code=code, sentence=sentence, data=data)
    elif target is State.BLOCKED:
        set_reason(child, code, sentence)
