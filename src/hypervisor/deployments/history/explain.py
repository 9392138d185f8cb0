"""The explanation of a deployment's state: reason, queue position, dependencies and past preemptions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from hypervisor.deployments.access import repository
from hypervisor.deployments.presenter import dependency_responses
from hypervisor.deployments.queue import positions
from hypervisor.deployments.queue.priority_inheritance import inherited_priorities
from hypervisor.deployments.schemas.responses import Explanation, QueuedAhead
from hypervisor.deployments.state.dependencies import load_parents
from hypervisor.lifecycle.states import WAITING, State
from hypervisor.store.tables import Attempt, Deployment

RECEIPTS = ("deployment.preempted", "deployment.preemption")
SHOWN_AHEAD = 5
SHOWN_RECEIPTS = 20


@dataclass(frozen=True, slots=True)
class PlannedPosition:
    """The 1-based position in the scheduler's order, and the ids of the first of its organization ahead."""

    position: int
    ahead: Sequence[int]


async def explain(
    session: AsyncSession,
    deployment: Deployment,
    current: Mapping[str, object] | None = None,
    planned: PlannedPosition | None = None,
) -> Explanation:
    """The whole explanation.

    Without `current`, the reason is that of the scheduler's last pass. Without `planned`, as in a back-off,
    the position is by priority and creation.
    """
    state = State(deployment.state)
    position, ahead = await _position(session, deployment, planned)
    parents = (await load_parents(session, [deployment.id])).get(deployment.id, [])
    run = (await repository.live_runs(session, [deployment.id])).get(deployment.id, [])
    events = await repository.events_of_types(session, deployment.id, RECEIPTS, SHOWN_RECEIPTS)
    lender = await _lender(session, deployment)
    return Explanation(
        deployment_id=deployment.id,
        name=deployment.name,
        status=state,
        sentence=_sentence(deployment, state, position, run, current),
        reason=_reason(deployment, current) if state in WAITING else None,
        priority=deployment.priority,
        effective_priority=lender.priority if lender else deployment.priority,
        inherits_from=_shown(lender) if lender else None,
        queue_position=position,
        ahead=[_shown(one) for one in ahead],
        dependencies=dependency_responses(parents),
        receipts=[{"at": event.at, **(event.data or {})} for event in events],
    )


async def _position(
    session: AsyncSession, deployment: Deployment, planned: PlannedPosition | None
) -> tuple[int | None, Sequence[Deployment]]:
    if planned is not None:
        return planned.position, await repository.find_all(session, planned.ahead)
    position = (await positions.queue_positions(session, [deployment])).get(deployment.id)
    return position, await positions.ahead_of(session, deployment, SHOWN_AHEAD) if position else ()


def _shown(one: Deployment) -> QueuedAhead:
    return QueuedAhead(deployment_id=one.id, name=one.name, priority=one.priority)


async def _lender(session: AsyncSession, deployment: Deployment) -> Deployment | None:
    """The dependent whose higher priority the deployment inherits."""
    lent = (await inherited_priorities(session, deployment.cluster_id)).get(deployment.id)
    if lent is None or lent.priority <= deployment.priority:
        return None
    return await repository.find(session, lent.from_id)


def _sentence(
    deployment: Deployment,
    state: State,
    position: int | None,
    run: Sequence[Attempt],
    current: Mapping[str, object] | None,
) -> str:
    sentence = f"{deployment.name} is {state.value}"
    if position is not None:
        sentence += f", number {position} in the queue of its cluster"
    elif run:
        sentence += f" on {', '.join(dict.fromkeys(attempt.node_name for attempt in run))}"
    reason = current["sentence"] if current else deployment.reason
    return f"{sentence}: {reason}" if reason else sentence


def _reason(deployment: Deployment, current: Mapping[str, object] | None) -> dict[str, object]:
    """The scheduler's reason with its data; other reasons have only a code and a sentence."""
    if current is not None:
        return dict(current)
    plain: dict[str, object] = {"code": deployment.reason_code, "sentence": deployment.reason}
    return {**plain, **(deployment.reason_data or {})}
