"""The commands start, stop, cancel and delete; `lifecycle.commands` decides which are allowed."""

from __future__ import annotations

from datetime import datetime

from hypervisor.clusters import repository as clusters
from hypervisor.deployments.access import repository
from hypervisor.deployments.access.policy import DeploymentAccess
from hypervisor.deployments.state.delete import delete_deployment
from hypervisor.deployments.state.dependencies import DependencySummary, load_parents, summarize_dependencies
from hypervisor.deployments.state.settle import settle_dependents
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
    """Apply the command, or do nothing where it has already taken effect.

    Raises Conflict with the reason when the state does not allow it, NotFound when the row was deleted.
    """
    deployment = await repository.lock(session, access.deployment_id)
    if deployment is None:
        raise access.hidden
    state_after_stop = State(deployment.state_after_stop) if deployment.state_after_stop else None
    decision = evaluate(command, State(deployment.state), state_after_stop)
    if isinstance(decision, Refused):
        raise Conflict(decision.code, f"{deployment.name}: {decision.sentence}.")
    if isinstance(decision, Accepted):
        actor = access.principal.actor
        if command is Command.START:
            await _start(session, deployment, now, actor)
        elif decision.target is State.STOPPING:
            await _stop(session, deployment, command, grace_seconds, now, actor)
        else:
            await _cancel(session, deployment, now, actor)
        await settle_dependents(session, [deployment.id], now=now, actor=actor)
    return deployment


async def delete(session: WriteSession, access: DeploymentAccess, *, force: bool, now: datetime) -> bool:
    """Delete the deployment. False: that happens after the end of its attempt is observed.

    Raises Conflict while other deployments wait for it. With `force` these are cancelled, also those with
    `on_failure` "hold", because their dependency can no longer be met.
    """
    deployment = await repository.lock(session, access.deployment_id)
    if deployment is None:
        raise access.hidden
    if not force:
        await _check_no_dependents(session, deployment)
    actor = access.principal.actor
    if State(deployment.state) not in LIVE:
        await delete_deployment(session, deployment, now=now, actor=actor)
        return True
    if deployment.delete_requested_at is None:
        deployment.delete_requested_at = now
        await _stop_to_delete(session, deployment, now, actor)
        await settle_dependents(session, [deployment.id], now=now, actor=actor)
    return False


async def _start(session: WriteSession, deployment: Deployment, now: datetime, actor: str) -> None:
    await _check_may_start(session, deployment)
    summary = await _dependencies(session, deployment)
    deployment.traceparent = current_traceparent()
    move(
        session,
        deployment,
        summary.state,
        now=now,
        actor=actor,
        code="started_again",
        sentence=f"started again; {summary.sentence}",
    )


async def _check_may_start(session: WriteSession, deployment: Deployment) -> None:
    if deployment.delete_requested_at is not None:
        raise Conflict("deployment_deleting", f"{deployment.name} is being deleted.")
    cluster = (await clusters.lock_clusters_shared(session, [deployment.cluster_id])).get(
        deployment.cluster_id
    )
    if cluster is None or cluster.deleting_at is not None:
        raise Conflict("cluster_deleting", f"{deployment.name}: its cluster is being deleted.")


async def _dependencies(session: WriteSession, deployment: Deployment) -> DependencySummary:
    """Its dependencies. Raises Conflict when one has failed and `on_failure` is "cancel"."""
    await repository.lock_parents(session, deployment.id)
    summary = summarize_dependencies((await load_parents(session, [deployment.id])).get(deployment.id, []))
    if summary.broken_by is not None and deployment.on_failure == "cancel":
        raise Conflict(
            "dependency_failed", f"{deployment.name} {summary.sentence}. Start that deployment again first."
        )
    return summary


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
        raise Conflict("not_running", f"{deployment.name} is ending; try again.")
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
    await repository.drop_nominations(session, [deployment.id])
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


async def _check_no_dependents(session: WriteSession, deployment: Deployment) -> None:
    if deployment.state == State.SUCCEEDED.value:
        return
    waiting = await repository.waiting_dependents(session, deployment.id, NAMED_DEPENDENTS)
    if waiting:
        named = ", ".join(f"{name} ({id_})" for id_, name in waiting.items())
        raise Conflict(
            "has_dependents",
            f"Other deployments wait for {deployment.name}: {named}. Delete or change them first, or use "
            "?force=true, which cancels them.",
            extra={"dependents": list(waiting)},
        )
