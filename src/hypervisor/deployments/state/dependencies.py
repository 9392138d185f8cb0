"""The effect of the states of parents on their dependents."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import bindparam, select
from sqlalchemy.ext.asyncio import AsyncSession

from hypervisor.deployments.state.transitions import move, set_reason
from hypervisor.lifecycle.dependencies import Condition, DependencyStatus, dependency_status
from hypervisor.lifecycle.states import State
from hypervisor.store.chunks import chunks
from hypervisor.store.database import WriteSession
from hypervisor.store.tables import Dependency, Deployment


@dataclass(frozen=True, slots=True)
class Parent:
    """One dependency of a deployment, with the present state of the parent."""

    id: int
    name: str
    state: State
    condition: Condition

    @property
    def status(self) -> DependencyStatus:
        return dependency_status(self.condition, self.state)


@dataclass(frozen=True, slots=True)
class DependencySummary:
    """All dependencies of one deployment together: QUEUED or BLOCKED, and the reason."""

    state: State
    code: str
    sentence: str
    broken_by: Parent | None = None


async def load_parents(session: AsyncSession, deployment_ids: Collection[int]) -> dict[int, list[Parent]]:
    """The dependencies by deployment, ordered by the id of the parent. Linear in their number."""
    found: dict[int, list[Parent]] = defaultdict(list)
    for chunk in chunks(sorted(deployment_ids)):
        rows = await session.execute(
            select(
                Dependency.deployment_id,
                Dependency.condition,
                Deployment.id,
                Deployment.name,
                Deployment.state,
            )
            .join(Deployment, Deployment.id == Dependency.depends_on_id)
            .where(Dependency.deployment_id.in_(chunk))
            .order_by(Deployment.id)
        )
        for child_id, condition, parent_id, name, state in rows:
            found[child_id].append(Parent(parent_id, name, State(state), Condition(condition)))
    return dict(found)


def summarize_dependencies(parents: Sequence[Parent]) -> DependencySummary:
    """QUEUED when every dependency is met, else BLOCKED with the first that is not."""
    broken = next((p for p in parents if p.status is DependencyStatus.BROKEN), None)
    if broken is not None:
        return DependencySummary(
            State.BLOCKED,
            "dependency_failed",
            f"depends on {broken.name} ({broken.id}), which is {broken.state.value}",
            broken,
        )
    for status, code in (
        (DependencyStatus.PAUSED, "dependency_stopped"),
        (DependencyStatus.WAITING, "waiting_for_dependency"),
    ):
        unmet = next((p for p in parents if p.status is status), None)
        if unmet is not None:
            return DependencySummary(State.BLOCKED, code, _waits_for(unmet))
    return DependencySummary(State.QUEUED, "queued", "waits for its turn")


async def settle_dependents(
    session: WriteSession, parent_ids: Collection[int], *, now: datetime, actor: str
) -> None:
    """Re-evaluate every BLOCKED deployment that depends on one of `parent_ids`, down the whole subtree.

    A child with all dependencies met is queued. Where a parent has failed, `on_failure` decides: "cancel"
    ends the child (and then its children), "hold" leaves it blocked with the reason.
    """
    await session.flush()
    level = set(parent_ids)
    while level:
        children = await _blocked_children(session, level)
        parents = await load_parents(session, [child.id for child in children])
        level = set()
        for child in children:
            if _settle(session, child, summarize_dependencies(parents[child.id]), now, actor):
                level.add(child.id)
        await session.flush()


async def cancel_dependents(
    session: WriteSession, parent_ids: Collection[int], *, now: datetime, actor: str
) -> None:
    """Cancel every BLOCKED deployment with an unmet dependency on one of `parent_ids`, before their deletion.

    This includes those with `on_failure` "hold": the dependency can no longer be met. A child whose
    dependency on these parents is met stays blocked on its other parents.
    """
    await session.flush()
    deleted = set(parent_ids)
    blocked = await _blocked_children(session, parent_ids)
    parents = await load_parents(session, [child.id for child in blocked])
    children = [
        child
        for child in blocked
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


async def _blocked_children(session: WriteSession, parent_ids: Collection[int]) -> list[Deployment]:
    children: dict[int, Deployment] = {}
    for chunk in chunks(sorted(parent_ids)):
        rows = await session.scalars(_BLOCKED_CHILDREN, {"parents": chunk})
        children.update((row.id, row) for row in rows)
    return list(children.values())


# Built once: every change of state runs it.
_BLOCKED_CHILDREN = (
    select(Deployment)
    .where(
        Deployment.id.in_(
            select(Dependency.deployment_id).where(
                Dependency.depends_on_id.in_(bindparam("parents", expanding=True))
            )
        ),
        Deployment.state == State.BLOCKED.value,
    )
    .order_by(Deployment.id)
    .with_for_update()
)


def _settle(
    session: WriteSession, child: Deployment, summary: DependencySummary, now: datetime, actor: str
) -> bool:
    """Apply its dependencies to a blocked child. True when it ended, so that its children must be settled."""
    if summary.state is State.QUEUED:
        move(
            session,
            child,
            State.QUEUED,
            now=now,
            actor=actor,
            code="dependencies_met",
            sentence="all dependencies are met; waits for its turn",
        )
        return False
    if summary.broken_by is not None and child.on_failure == "cancel":
        move(
            session,
            child,
            State.CANCELLED,
            now=now,
            actor=actor,
            code=summary.code,
            sentence=summary.sentence,
            data={"dependency": summary.broken_by.id},
        )
        return True
    set_reason(child, summary.code, summary.sentence)
    return False


def _waits_for(parent: Parent) -> str:
    goal = "to succeed" if parent.condition is Condition.SUCCEEDED else "to run"
    hint = "; start it again" if parent.status is DependencyStatus.PAUSED else ""
    return f"waits for {parent.name} ({parent.id}) {goal}; it is {parent.state.value}{hint}"
