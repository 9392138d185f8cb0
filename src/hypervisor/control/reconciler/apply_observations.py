"""Facts about attempts, and the transaction that makes them part of the truth.

A fact is applied only to an attempt that is still live. An end frees the capacity, moves the deployment
along its edge and settles its dependents, all in one commit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import BindParameter, bindparam, select

from hypervisor.control.allocations.capacity import release
from hypervisor.control.reconciler.gangs import GangRun, end_of_one, load_runs
from hypervisor.deployments.state.delete import delete_deployment
from hypervisor.deployments.state.dependencies import settle_dependents
from hypervisor.deployments.state.stop import request_stop
from hypervisor.deployments.state.transitions import move
from hypervisor.events.log import RECONCILER
from hypervisor.kernel.observation import Observation, ObservedState
from hypervisor.kernel.randomness import Random
from hypervisor.lifecycle.conclude import Conclusion, Ending, StopReason, conclude
from hypervisor.lifecycle.states import ENDED, State
from hypervisor.store.chunks import chunks
from hypervisor.store.database import WriteSession
from hypervisor.store.tables import Attempt, Deployment, InstanceGc


@dataclass(frozen=True, slots=True)
class Running:
    """It was seen running."""

    attempt_id: int
    deployment_id: int
    observation: Observation


@dataclass(frozen=True, slots=True)
class Ended:
    """It was seen to have ended, or could not be launched (`launch_error`)."""

    attempt_id: int
    deployment_id: int
    observation: Observation | None
    launch_error: str | None = None
    launch_retryable: bool = False


@dataclass(frozen=True, slots=True)
class Expired:
    """It has used up its `max_runtime_seconds`."""

    attempt_id: int
    deployment_id: int


Observed = Running | Ended | Expired


@dataclass(slots=True)
class Applied:
    """How many ended (their instances may be removed now), and the instances to be stopped."""

    ended: int = 0
    stopping: list[str] = field(default_factory=list)


async def apply_observations(
    session: WriteSession, facts: Sequence[Observed], now: datetime, random: Random
) -> Applied:
    """Apply facts in one transaction; what is stale is dropped. Safe to run again.

    `random` spreads the back-off of retries.
    """
    deployments = await _lock_deployments(session, {fact.deployment_id for fact in facts})
    attempts = await _lock_attempts(session, {fact.attempt_id for fact in facts})
    runs = await load_runs(session, attempts.values(), deployments)
    applied, changed, ended = Applied(), [], []
    for fact in facts:
        deployment, attempt = deployments.get(fact.deployment_id), attempts.get(fact.attempt_id)
        if deployment is None or attempt is None or attempt.finished_at is not None:
            continue
        changed.append(deployment.id)
        run = runs[deployment.id]
        match fact:
            case Running():
                _mark_running(session, deployment, attempt, run, fact.observation, now)
            case Expired():
                applied.stopping += _expire(session, deployment, run, now)
            case Ended():
                applied.stopping += _end(session, deployment, attempt, run, fact, now, random.random())
                ended.append(attempt)
    await release(session, ended)
    applied.ended = len(ended)
    await settle_dependents(session, changed, now=now, actor=RECONCILER)
    # All replicas of one deployment may have ended at once: it is deleted once.
    over = dict.fromkeys(attempt.deployment_id for attempt in ended)
    await _finish_deletions(session, [deployments[id_] for id_ in over], now)
    return applied


# Built once: everything that is learnt from an engine asks these.
_IDS: BindParameter[int] = bindparam("ids", expanding=True)
_DEPLOYMENTS = select(Deployment).where(Deployment.id.in_(_IDS)).order_by(Deployment.id).with_for_update()
_ATTEMPTS = select(Attempt).where(Attempt.id.in_(_IDS)).order_by(Attempt.id).with_for_update()


async def _lock_deployments(session: WriteSession, ids: set[int]) -> dict[int, Deployment]:
    locked: dict[int, Deployment] = {}
    for chunk in chunks(sorted(ids)):
        rows = await session.scalars(_DEPLOYMENTS, {"ids": chunk})
        locked.update((row.id, row) for row in rows)
    return locked


async def _lock_attempts(session: WriteSession, ids: set[int]) -> dict[int, Attempt]:
    locked: dict[int, Attempt] = {}
    for chunk in chunks(sorted(ids)):
        rows = await session.scalars(_ATTEMPTS, {"ids": chunk})
        locked.update((row.id, row) for row in rows)
    return locked


def _mark_running(
    session: WriteSession,
    deployment: Deployment,
    attempt: Attempt,
    run: GangRun,
    seen: Observation,
    now: datetime,
) -> None:
    if attempt.started_at is not None:
        return
    attempt.started_at = seen.started_at or now
    attempt.ports = [
        {"port": binding.port, "host": binding.host, "host_port": binding.host_port} for binding in seen.ports
    ]
    if deployment.state == State.STARTING.value and run.is_up:
        move(
            session,
            deployment,
            State.RUNNING,
            now=run.up_since or attempt.started_at,
            actor=RECONCILER,
            code="running",
            sentence=run.where,
            data={"attempt": attempt.number, "node": run.attempts[0].node_name},
        )


def _expire(session: WriteSession, deployment: Deployment, run: GangRun, now: datetime) -> list[str]:
    """Ask all replicas to end; the instances to be stopped."""
    if deployment.state == State.STOPPING.value:
        return []
    request_stop(
        session,
        deployment,
        run.live,
        StopReason.MAX_RUNTIME,
        now=now,
        actor=RECONCILER,
        sentence=f"has run for its max_runtime_seconds ({deployment.max_runtime_seconds} s)",
    )
    return [attempt.instance for attempt in run.live]


def _end(
    session: WriteSession,
    deployment: Deployment,
    attempt: Attempt,
    run: GangRun,
    fact: Ended,
    now: datetime,
    jitter: float,
) -> list[str]:
    """Record the end of an attempt; the instances of other replicas that have to stop for it."""
    seen = fact.observation
    if seen is not None and seen.state is ObservedState.EXITED:
        # It ran and ended between two looks: its running is part of the history too.
        _mark_running(session, deployment, attempt, run, seen, now)
    conclusion = conclude(_ending(deployment, attempt, fact), jitter)
    attempt.finished_at = (seen.finished_at if seen else None) or now
    attempt.outcome = conclusion.outcome
    attempt.exit_code = seen.exit_code if seen else None
    attempt.message = fact.launch_error or (seen.message if seen else None) or conclusion.sentence
    session.add(
        InstanceGc(
            instance=attempt.instance,
            runtime=attempt.runtime,
            engine_endpoint=attempt.engine_endpoint,
            created_at=now,
        )
    )
    if run.live:
        return end_of_one(session, deployment, run, attempt, conclusion, now)
    if deployment.replicas > 1:
        conclusion = run.conclude(deployment, attempt, conclusion)
    _follow(session, deployment, attempt, conclusion, now)
    return []


def _ending(deployment: Deployment, attempt: Attempt, fact: Ended) -> Ending:
    return Ending(
        observation=fact.observation,
        launch_error=fact.launch_error,
        launch_retryable=fact.launch_retryable,
        started_at=attempt.started_at,
        stop_reason=StopReason(attempt.stop_reason) if attempt.stop_reason else None,
        stop_requested_at=attempt.stop_requested_at,
        restart_policy=deployment.restart_policy,
        max_retries=deployment.max_retries,
        retries_used=deployment.retries_used,
        retry_exit_codes=deployment.retry_exit_codes or (),
        ram_limit_mib=deployment.ram_mib,
    )


def _follow(
    session: WriteSession,
    deployment: Deployment,
    attempt: Attempt,
    conclusion: Conclusion,
    now: datetime,
) -> None:
    state = conclusion.state
    if deployment.delete_requested_at is not None and state is State.QUEUED:
        state = State.STOPPED
    deployment.retries_used = conclusion.retries_used
    if conclusion.code != StopReason.GANG_FAILED.value:
        # Of a gang that failed the exit code is that of the replica with which it began.
        deployment.exit_code = attempt.exit_code
    if conclusion.delay:
        deployment.not_before = now + timedelta(seconds=conclusion.delay)
    move(
        session,
        deployment,
        state,
        now=now,
        actor=RECONCILER,
        code=conclusion.code,
        sentence=conclusion.sentence,
        data={"attempt": attempt.number, "outcome": conclusion.outcome, "exit_code": attempt.exit_code},
    )


async def _finish_deletions(session: WriteSession, deployments: Sequence[Deployment], now: datetime) -> None:
    """Rows whose deletion waited for the end of their attempt go now; their history stays."""
    await session.flush()
    for deployment in deployments:
        if deployment.delete_requested_at is not None and State(deployment.state) in ENDED:
            await delete_deployment(session, deployment, now=now, actor=RECONCILER)
