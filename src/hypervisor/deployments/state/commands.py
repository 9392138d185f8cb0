"""What people ask of a deployment: start, stop, cancel, delete; `lifecycle.commands` says what is allowed."""

from __future__ import annotations

from datetime import datetime

from hypervisor.clusters import repository as clusters
from hypervisor.deployments.access import repository
from hypervisor.deployments.access.policy import DeploymentAccess
from hypervisor.deployments.state.delete import delete_deployment
from hypervisor.deployments.state.dependencies import (
    DependencySummary,
    load_parents,
    settle_dependents,
    summarize_dependencies,
)
from hypervisor.deployments.state.stop import live_attempts, request_stop
from hypervisor.deployments.state.transitions import move
from hypervisor.errors import Conflict
from hypervisor.infra.observability.tracing import current_traceparent
from hypervisor.lifecycle.commands import Accepted, Command, Refused, evaluate
from hypervisor.lifecycle.conclude import StopReason
from hypervisor.lifecycle.states import LIVE, State
from hypervisor.store.database import WriteSession
from hypervisor.store.tables import Deployment

NAMED_DEPENDENTS = 10


async def apply_command(
    session: WriteSession,
    access: DeploymentAccess,
    command: Command,
    *,
    now: datetime,
    grace_seconds: int | None = None,
) -> Deployment:
    """Do what is asked, or nothing where it is so already. Raises Conflict with the reason of a refusal."""
    deployment = await repository.lock(session, access.deployment_id)
    if deployment is None:
        raise access.hidden
    state_after_stop = State(deployment.state_after_stop) if deployment.state_after_stop else None
    verdict = evaluate(command, State(deployment.state), state_after_stop)
    if isinstance(verdict, Refused):
        raise Conflict(verdict.code, f"{deployment.name}: {verdict.sentence}.")
    if isinstance(verdict, Accepted):
        actor = access.principal.actor
        if command is Command.START:
            await _start(session, deployment, now, actor)
        elif verdict.target is State.STOPPING:
            await _stop(session, deployment, command, grace_seconds, now, actor)
        else:
            await _cancel(session, deployment, now, actor)
        await settle_dependents(session, [deployment.id], now=now, actor=actor)
    return deployment


async def delete(session: WriteSession, access: DeploymentAccess, *, force: bool, now: datetime) -> bool:
    """Delete the deployment; True when it is gone, False when it goes once its work was seen to end.

    Raises Conflict while others wait for it, unless `force`: those are cancelled, held ones as well, because
    what they wait for cannot come any more.
    """
    deployment = await repository.lock(session, access.deployment_id)
    if deployment is None:
        raise access.hidden
    if not force:
        await _check_nobody_waits(session, deployment)
    actor = access.principal.actor
    if State(deployment.state) not in LIVE:
        await delete_deployment(session, deployment, now=now, actor=actor)
        return True
    if deployment.delete_requested_at is None:
        deployment.delete_requested_at = now
        await _stop_to_delete(session, deployment, now, actor)
    return False


async def _start(session: WriteSession, deployment: Deployment, now: datetime, actor: str) -> None:
    await _check_may_start(session, deployment)
    standing = await _standing(session, deployment)
    deployment.traceparent = current_traceparent()
    move(
        session,
        deployment,
        standing.state,
        now=now,
        actor=actor,
        code="started_again",
        sentence=f"started again; {standing.sentence}",
    )


async def _check_may_start(session: WriteSession, deployment: Deployment) -> None:
    if deployment.delete_requested_at is not None:
        raise Conflict("deployment_deleting", f"{deployment.name} is being deleted.")
    cluster = (await clusters.hold_clusters(session, [deployment.cluster_id])).get(deployment.cluster_id)
    if cluster is None or cluster.deleting_at is not None:
        raise Conflict("cluster_deleting", f"{deployment.name}: its cluster is being deleted.")


async def _standing(session: WriteSession, deployment: Deployment) -> DependencySummary:
    """Where it stands with its dependencies. Raises Conflict when one has failed and nothing holds it."""
    await repository.lock_parents(session, deployment.id)
    standing = summarize_dependencies((await load_parents(session, [deployment.id])).get(deployment.id, []))
    if standing.broken_by is not None and deployment.on_failure == "cancel":
        raise Conflict(
            "dependency_failed", f"{deployment.name} {standing.sentence}. Start that one again first."
        )
    return standing


async def _stop(
    session: WriteSession,
    deployment: Deployment,
    command: Command,
    grace_seconds: int | None,
    now: datetime,
    actor: str,
) -> None:
    attempts = (await live_attempts(session, [deployment.id])).get(deployment.id)
    if not attempts:
        raise Conflict("not_running", f"{deployment.name} is just ending; try again.")
    stop = command is Command.STOP
    request_stop(
        session,
        deployment,
        attempts,
        StopReason.STOPPED if stop else StopReason.CANCELLED,
        now=now,
        actor=actor,
        sentence="stopped on request" if stop else "cancelled on request",
        grace_seconds=grace_seconds,
    )


async def _cancel(session: WriteSession, deployment: Deployment, now: datetime, actor: str) -> None:
    await repository.drop_nomination(session, deployment.id)
    move(
        session,
        deployment,
        State.CANCELLED,
        now=now,
        actor=actor,
        code=StopReason.CANCELLED.value,
        sentence="cancelled on request while it waited",
    )


async def _stop_to_delete(session: WriteSession, deployment: Deployment, now: datetime, actor: str) -> None:
    attempts = (await live_attempts(session, [deployment.id])).get(deployment.id)
    if not attempts:
        return
    if deployment.state_after_stop in (None, State.QUEUED.value):
        request_stop(
            session,
            deployment,
            attempts,
            StopReason.DELETED,
            now=now,
            actor=actor,
            sentence="stopped to be deleted",
        )


async def _check_nobody_waits(session: WriteSession, deployment: Deployment) -> None:
    if deployment.state == State.SUCCEEDED.value:
        return
    waiting = await repository.unmet_dependents(session, deployment.id, NAMED_DEPENDENTS)
    if waiting:
        named = ", ".join(f"{name} ({id_})" for id_, name in waiting.items())
        raise Conflict(
            "has_dependents",
            f"Others wait for {deployment.name}: {named}. Delete or change them first, or use ?force=true, "
            "which cancels them.",
            extra={"dependents": list(waiting)},
        )
