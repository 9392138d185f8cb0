"""The record of a running instance: its first start, starts from outside of the product, and its health."""

from __future__ import annotations

from datetime import datetime

from hypervisor.control.reconciler.gangs import GangRun
from hypervisor.deployments.state.transitions import move
from hypervisor.events.log import RECONCILER, record
from hypervisor.kernel.observation import Health, Observation
from hypervisor.lifecycle.decide import was_restarted
from hypervisor.lifecycle.states import State
from hypervisor.store.database import WriteSession
from hypervisor.store.tables import Attempt, Deployment

RESTARTED = "deployment.restarted"
HEALTH = "deployment.health"


def mark_running(
    session: WriteSession,
    deployment: Deployment,
    attempt: Attempt,
    run: GangRun,
    observation: Observation,
    now: datetime,
) -> None:
    """Record that the instance of a live attempt runs. Idempotent."""
    if attempt.started_at is None:
        mark_started(session, deployment, attempt, run, observation, now)
    elif attempt.end_observed is not None or was_restarted(
        attempt.started_at, attempt.restarted_at, observation.started_at
    ):
        _mark_restarted(session, deployment, attempt, observation, now)
    if observation.health != attempt.health:
        _mark_health(session, deployment, attempt, observation.health, now)


def mark_started(
    session: WriteSession,
    deployment: Deployment,
    attempt: Attempt,
    run: GangRun,
    observation: Observation,
    now: datetime,
) -> None:
    """Record the first start of an attempt; the deployment is RUNNING with its last replica."""
    if attempt.started_at is not None:
        return
    attempt.started_at = observation.started_at or now
    attempt.ports = _ports(observation)
    if deployment.state == State.STARTING.value and run.is_up:
        move(
            session,
            deployment,
            State.RUNNING,
            now=run.up_since or attempt.started_at,
            actor=RECONCILER,
            code="running",
            sentence=run.running_sentence,
            data={"attempt": attempt.number, "node": run.attempts[0].node_name},
        )


def _mark_restarted(
    session: WriteSession, deployment: Deployment, attempt: Attempt, observation: Observation, now: datetime
) -> None:
    attempt.restarted_at = observation.started_at or now
    attempt.end_observed = None
    attempt.ports = _ports(observation)
    _record(
        session,
        deployment,
        attempt,
        now,
        RESTARTED,
        "restarted_outside",
        "was started again from outside of the hypervisor; the attempt continues",
    )


def _mark_health(
    session: WriteSession, deployment: Deployment, attempt: Attempt, health: Health | None, now: datetime
) -> None:
    attempt.health = health
    if health not in (None, Health.STARTING):
        _record(
            session, deployment, attempt, now, HEALTH, str(health), f"the health check of the image: {health}"
        )


def _record(
    session: WriteSession,
    deployment: Deployment,
    attempt: Attempt,
    now: datetime,
    type_: str,
    code: str,
    sentence: str,
) -> None:
    record(
        session,
        organization_id=deployment.organization_id,
        cluster_id=deployment.cluster_id,
        deployment_id=deployment.id,
        at=now,
        actor=RECONCILER,
        type=type_,
        code=code,
        message=sentence if deployment.replicas == 1 else f"replica {attempt.replica}: {sentence}",
        data={"attempt": attempt.number, "replica": attempt.replica, "node": attempt.node_name},
    )


def _ports(observation: Observation) -> list[dict[str, object]]:
    return [
        {"port": binding.port, "host": binding.host, "host_port": binding.host_port}
        for binding in observation.ports
    ]
