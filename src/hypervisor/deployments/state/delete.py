"""Deletion of a deployment: everything on its engine is removed, its events stay."""

from __future__ import annotations

from datetime import datetime

from hypervisor.deployments.state.settle import cancel_dependents
from hypervisor.events.log import record_about
from hypervisor.kernel.failpoints import reached
from hypervisor.store.database import WriteSession
from hypervisor.store.removals import enqueue_instance_gc
from hypervisor.store.tables import Attempt, Deployment


async def delete_deployment(
    session: WriteSession, deployment: Deployment, *, now: datetime, actor: str
) -> None:
    """Delete a deployment without a live attempt, with its attempts and logs. Its events stay.

    Deployments that are blocked on it are cancelled: their dependency can no longer be met.
    """
    await cancel_dependents(session, [deployment.id], now=now, actor=actor)
    await enqueue_instance_gc(session, Attempt.deployment_id == deployment.id, now)
    record_about(
        session,
        deployment,
        at=now,
        actor=actor,
        type="deployment.deleted",
        message=f"{deployment.name} was deleted",
    )
    reached("delete_before_row")
    await session.delete(deployment)
    await session.flush()
    reached("delete_after_row")
