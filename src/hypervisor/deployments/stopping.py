"""Asking a live deployment to end: the intent is committed first, the reconciler passes it on."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import select

from hypervisor.deployments.transitions import move
from hypervisor.lifecycle.conclude import StopReason, state_after_stop
from hypervisor.lifecycle.states import State
from hypervisor.store.database import WriteSession
from hypervisor.store.tables import Attempt, Deployment


async def live_attempt(session: WriteSession, deployment_id: int) -> Attempt | None:
    """The attempt that holds capacity now, locked, or None."""
    return await session.scalar(
        select(Attempt)
        .where(Attempt.deployment_id == deployment_id, Attempt.finished_at.is_(None))
        .with_for_update()
    )


def request_stop(
    session: WriteSession,
    deployment: Deployment,
    attempt: Attempt,
    reason: StopReason,
    *,
    now: datetime,
    actor: str,
    sentence: str,
    grace_seconds: int | None = None,
    preempted_by: int | None = None,
    data: Mapping[str, object] | None = None,
) -> None:
    """Mark a live attempt as to be stopped and its deployment as STOPPING.

    A later reason overrides an earlier one only where the deployment would otherwise come back to the
    queue (a cancel during a preemption). The first stop's grace goes on. Capacity stays held until the end
    was observed.
    """
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
        then=state_after_stop(reason),
    )
