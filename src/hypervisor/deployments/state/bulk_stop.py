"""Ending every deployment of a cluster or an organization that is being deleted."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import aliased

from hypervisor.deployments.state.settle import cancel_dependents, settle_dependents
from hypervisor.deployments.state.stop import live_attempts, request_stop
from hypervisor.deployments.state.transitions import move
from hypervisor.lifecycle.conclude import StopReason
from hypervisor.lifecycle.states import LIVE, WAITING, State
from hypervisor.store.database import WriteSession
from hypervisor.store.tables import Dependency, Deployment, Organization


async def stop_all(
    session: WriteSession, which: ColumnElement[bool], *, now: datetime, actor: str, why: str
) -> None:
    """Cancel the waiting and stop the live deployments that `which` selects. Safe to repeat."""
    rows = await session.scalars(
        select(Deployment)
        .where(which, Deployment.state.in_([state.value for state in WAITING | LIVE]))
        .order_by(Deployment.id)
        .with_for_update()
    )
    deployments = list(rows)
    waiting = [d for d in deployments if State(d.state) in WAITING]
    for deployment in waiting:
        move(session, deployment, State.CANCELLED, now=now, actor=actor, code="place_deleted", sentence=why)
    await _stop_live(session, [d for d in deployments if State(d.state) in LIVE], now, actor, why)
    await settle_dependents(session, [d.id for d in deployments], now=now, actor=actor)


async def cancel_outside_dependents(
    session: WriteSession, which: ColumnElement[bool], *, now: datetime, actor: str
) -> None:
    """Cancel the deployments that are blocked on the selected ones, before these are deleted."""
    # Starts from the blocked deployments by organization: they are fewer than those that have ended.
    child = aliased(Deployment)
    parents = (
        select(Dependency.depends_on_id)
        .join(child, child.id == Dependency.deployment_id)
        .join(Deployment, Deployment.id == Dependency.depends_on_id)
        .where(
            which,
            child.state == State.BLOCKED.value,
            child.organization_id.in_(select(Organization.id)),
        )
        .distinct()
    )
    await cancel_dependents(session, sorted(await session.scalars(parents)), now=now, actor=actor)


async def _stop_live(
    session: WriteSession, deployments: list[Deployment], now: datetime, actor: str, why: str
) -> None:
    by_id = {deployment.id: deployment for deployment in deployments}
    for deployment_id, attempts in (await live_attempts(session, by_id)).items():
        if any(attempt.stop_reason != StopReason.DELETED.value for attempt in attempts):
            request_stop(
                session,
                by_id[deployment_id],
                attempts,
                StopReason.DELETED,
                now=now,
                actor=actor,
                sentence=why,
            )
