"""Stop requests: the request is committed first, then the reconciler sends it to the engine."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime

from sqlalchemy import select

from hypervisor.deployments.state.transitions import move
from hypervisor.lifecycle.conclude import StopReason, state_after_stop
from hypervisor.lifecycle.states import State
from hypervisor.store.chunks import chunks
from hypervisor.store.database import WriteSession
from hypervisor.store.tables import Attempt, Deployment


async def live_attempts(session: WriteSession, deployment_ids: Collection[int]) -> dict[int, list[Attempt]]:
    """The live attempts by deployment, one for each replica, locked. They hold capacity."""
    found: dict[int, list[Attempt]] = {}
    for chunk in chunks(sorted(deployment_ids)):
        rows = await session.scalars(
            select(Attempt)
            .where(Attempt.deployment_id.in_(chunk), Attempt.finished_at.is_(None))
            .order_by(Attempt.id)
            .with_for_update()
            .execution_options(populate_existing=True)
        )
        for attempt in rows:
            found.setdefault(attempt.deployment_id, []).append(attempt)
    return found


def request_stop(
    session: WriteSession,
    deployment: Deployment,
    attempts: Collection[Attempt],
    reason: StopReason,
    *,
    now: datetime,
    actor: str,
    sentence: str,
    grace_seconds: int | None = None,
    preempted_by: int | None = None,
    data: Mapping[str, object] | None = None,
    then: State | None = None,
) -> None:
    """Set the stop request of the live attempts of a deployment, and its state to STOPPING.

    A later reason replaces an earlier one only where the deployment would otherwise return to the queue (a
    cancel during a preemption). The grace period of the first stop stays. Capacity is held until the end is
    observed. `then` is the state after that; default: the one that follows from the reason.
    """
    for attempt in attempts:
        if attempt.stop_requested_at is None:
            attempt.stop_requested_at = now
            attempt.stop_grace_seconds = (
                deployment.grace_period_seconds if grace_seconds is None else grace_seconds
            )
            attempt.preempted_by = preempted_by
        attempt.stop_reason = reason.value
    move(
        session,
        deployment,
        State.STOPPING,
        now=now,
        actor=actor,
        code=reason.value,
        sentence=sentence,
        data=data,
        then=then or state_after_stop(reason),
    )
