"""The dependencies of a deployment with the states of its parents, and their summary."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from hypervisor.lifecycle.dependencies import Condition, DependencyStatus, dependency_status
from hypervisor.lifecycle.states import State
from hypervisor.store.chunks import chunks
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


def is_unmet(parent: type[Deployment]) -> ColumnElement[bool]:
    """The condition for edges that are not met. `parent` is the entity that the query joins as the parent."""
    return tuple_(Dependency.condition, parent.state).not_in(_MET)


_MET = [
    (condition.value, state.value)
    for condition in Condition
    for state in State
    if dependency_status(condition, state) is DependencyStatus.MET
]


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


def _waits_for(parent: Parent) -> str:
    goal = "to succeed" if parent.condition is Condition.SUCCEEDED else "to run"
    hint = "; start it again" if parent.status is DependencyStatus.PAUSED else ""
    return f"waits for {parent.name} ({parent.id}) {goal}; it is {parent.state.value}{hint}"
