"""Write event rows in the transaction of the change that they describe."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from hypervisor.store.database import WriteSession
from hypervisor.store.tables import Deployment, Event

SYSTEM = "system"
SCHEDULER = "scheduler"
RECONCILER = "reconciler"
WORKLOAD = "workload"
"""An attempt that speaks about itself."""


def user_actor(user_id: int) -> str:
    return f"user:{user_id}"


def record(
    session: WriteSession,
    *,
    organization_id: int,
    at: datetime,
    actor: str,
    type: str,
    message: str,
    cluster_id: int | None = None,
    deployment_id: int | None = None,
    from_state: str | None = None,
    to_state: str | None = None,
    code: str | None = None,
    data: Mapping[str, object] | None = None,
) -> None:
    """Add one event to the session; it becomes visible with the caller's commit.

    `type` is dotted ("deployment.state", "cluster.created", "member.role_changed"), `code` a stable reason,
    `message` a sentence for people. Never put secrets into `data`.
    """
    session.add(
        Event(
            organization_id=organization_id,
            cluster_id=cluster_id,
            deployment_id=deployment_id,
            at=at,
            actor=actor,
            type=type,
            from_state=from_state,
            to_state=to_state,
            code=code,
            message=message,
            data=dict(data) if data is not None else None,
        )
    )


def record_about(
    session: WriteSession,
    deployment: Deployment,
    *,
    at: datetime,
    actor: str,
    type: str,
    message: str,
    from_state: str | None = None,
    to_state: str | None = None,
    code: str | None = None,
    data: Mapping[str, object] | None = None,
) -> None:
    """`record` for a deployment: it lands in the history of its organization and cluster."""
    record(
        session,
        organization_id=deployment.organization_id,
        cluster_id=deployment.cluster_id,
        deployment_id=deployment.id,
        at=at,
        actor=actor,
        type=type,
        message=message,
        from_state=from_state,
        to_state=to_state,
        code=code,
        data=data,
    )
