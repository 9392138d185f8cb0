"""Insertion of event rows in the transaction of the change that they describe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NotRequired, TypedDict, Unpack, cast

from sqlalchemy import Table, insert

from hypervisor.store.database import WriteSession
from hypervisor.store.tables import Deployment, Event

SYSTEM = "system"
SCHEDULER = "scheduler"
RECONCILER = "reconciler"
WORKLOAD = "workload"
"""The actor of an attempt that reports its own progress."""


def user_actor(user_id: int) -> str:
    return f"user:{user_id}"


class EventFields(TypedDict):
    """The content of an event.

    `type` is dotted ("deployment.state", "cluster.created", "member.role_changed"), `code` a stable reason,
    `message` a sentence for people. `data` never contains secrets.
    """

    at: datetime
    actor: str
    type: str
    message: str
    from_state: NotRequired[str | None]
    to_state: NotRequired[str | None]
    code: NotRequired[str | None]
    data: NotRequired[Mapping[str, object] | None]


def record(
    session: WriteSession,
    *,
    organization_id: int,
    cluster_id: int | None = None,
    deployment_id: int | None = None,
    **fields: Unpack[EventFields],
) -> None:
    """Add one event to the session; it becomes visible with the caller's commit."""
    event = Event(
        organization_id=organization_id, cluster_id=cluster_id, deployment_id=deployment_id, **fields
    )
    event.data = dict(event.data) if event.data is not None else None
    session.add(event)


async def record_all(
    session: WriteSession, deployments: Sequence[Deployment], events: Sequence[EventFields]
) -> None:
    """`record_about` for many deployments in one statement, which runs immediately."""
    rows = [
        {
            "organization_id": deployment.organization_id,
            "cluster_id": deployment.cluster_id,
            "deployment_id": deployment.id,
            "from_state": None,
            "to_state": None,
            "code": None,
            "data": None,
            **fields,
        }
        for deployment, fields in zip(deployments, events, strict=True)
    ]
    await session.execute(insert(cast(Table, Event.__table__)), rows)


def record_about(session: WriteSession, deployment: Deployment, **fields: Unpack[EventFields]) -> None:
    """`record` for a deployment, its organization and its cluster."""
    record(
        session,
        organization_id=deployment.organization_id,
        cluster_id=deployment.cluster_id,
        deployment_id=deployment.id,
        **fields,
    )
