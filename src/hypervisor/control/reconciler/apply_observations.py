"""Observations of attempts, and the transaction that applies them.

An observation is applied only to a live attempt. An end frees the capacity, changes the state of the
deployment and settles its dependents, all in one commit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import BindParameter, bindparam, select

from hypervisor.control.allocations.capacity import release
from hypervisor.control.reconciler.gangs import GangRun, end_replica, load_runs
from hypervisor.control.reconciler.recorded_end import end_record
from hypervisor.control.reconciler.running import mark_running, mark_started
from hypervisor.deployments.access.locks import lock_in_order, parent_ids
from hypervisor.deployments.state.delete import delete_deployment
from hypervisor.deployments.state.settle import settle, settle_dependents
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
    """The attempt was observed running."""

    attempt_id: int
    deployment_id: int
    observation: Observation


@dataclass(frozen=True, slots=True)
class EndObserved:
    """The instance has ended, and can be started again until it is removed: the attempt stays live."""

    attempt_id: int
    deployment_id: int
    observation: Observation


@dataclass(frozen=True, slots=True)
class Ended:
    """The attempt was observed to have ended, or its launch failed (`launch_error`)."""

    attempt_id: int
    deployment_id: int
    observation: Observation | None
    launch_error: str | None = None
    launch_retryable: bool = False


@dataclass(frozen=True, slots=True)
class Expired:
    """The attempt has reached its `max_runtime_seconds`."""

    attempt_id: int
    deployment_id: int


Observed = Running | EndObserved | Ended | Expired


@dataclass(slots=True)
class Applied:
    """How many attempts ended (their instances may be removed now), and the instances to stop."""

    ended: int = 0
    stopping: list[str] = field(default_factory=list)


async def apply_observations(
    session: WriteSession, observations: Sequence[Observed], now: datetime, random: Random
) -> Applied:
    """Apply observations in one transaction; stale ones are dropped. Idempotent.

    `random` spreads the back-off of retries.
    """
    deployments = await _lock_deployments(session, observations)
    attempts = await _lock_attempts(session, {observed.attempt_id for observed in observations})
    runs = await load_runs(session, attempts.values(), deployments)
    applied, changed, ended = Applied(), [], []
    for observed in observations:
        deployment, attempt = deployments.get(observed.deployment_id), attempts.get(observed.attempt_id)
        if deployment is None or attempt is None or attempt.finished_at is not None:
            continue
        changed.append(deployment.id)
        run = runs[deployment.id]
        match observed:
            case Running():
                mark_running(session, deployment, attempt, run, observed.observation, now)
            case EndObserved(observation=observation):
                mark_started(session, deployment, attempt, run, observation, now)
                attempt.end_observed = end_record(observation)
            case Expired():
                applied.stopping += _expire(session, deployment, run, now)
            case Ended():
                applied.stopping += _end(session, deployment, attempt, run, observed, now, random.random())
                ended.append(attempt)
    applied.ended = len(ended)
    # All replicas of a deployment may have ended at once.
    concluded = [deployments[id_] for id_ in dict.fromkeys(attempt.deployment_id for attempt in ended)]
    requeued = [one for one in concluded if one.state == State.QUEUED.value]
    await settle(session, requeued, now=now, actor=RECONCILER)
    await settle_dependents(session, changed, now=now, actor=RECONCILER)
    await release(session, ended)
    await _finish_deletions(session, concluded, now)
    return applied


# Built once: every batch of observations runs these.
_IDS: BindParameter[int] = bindparam("ids", expanding=True)
_ATTEMPTS = select(Attempt).where(Attempt.id.in_(_IDS)).order_by(Attempt.id).with_for_update()


async def _lock_deployments(session: WriteSession, observations: Sequence[Observed]) -> dict[int, Deployment]:
    """Lock the deployments, and the parents of those that may return to the queue."""
    ended = {observed.deployment_id for observed in observations if isinstance(observed, Ended)}
    ids = {observed.deployment_id for observed in observations}
    return await lock_in_order(session, ids, await parent_ids(session, ended))


async def _lock_attempts(session: WriteSession, ids: set[int]) -> dict[int, Attempt]:
    locked: dict[int, Attempt] = {}
    for chunk in chunks(sorted(ids)):
        rows = await session.scalars(_ATTEMPTS, {"ids": chunk})
        locked.update((row.id, row) for row in rows)
    return locked


def _expire(session: WriteSession, deployment: Deployment, run: GangRun, now: datetime) -> list[str]:
    """Request the stop of all replicas; the instances to stop."""
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
    observed: Ended,
    now: datetime,
    jitter: float,
) -> list[str]:
    """Record the end of an attempt; the instances of other replicas to stop because of it."""
    observation = observed.observation
    if observation is not None and observation.state is ObservedState.EXITED:
        # The attempt ran and ended between two observations: its history contains both.
        mark_started(session, deployment, attempt, run, observation, now)
    conclusion = conclude(_ending(deployment, attempt, observed), jitter)
    attempt.end_observed = None
    attempt.finished_at = (observation.finished_at if observation else None) or now
    attempt.outcome = conclusion.outcome
    attempt.exit_code = observation.exit_code if observation else None
    attempt.message = (
        observed.launch_error or (observation.message if observation else None) or conclusion.sentence
    )
    session.add(
        InstanceGc(
            instance=attempt.instance,
            runtime=attempt.runtime,
            engine_endpoint=attempt.engine_endpoint,
            created_at=now,
        )
    )
    if run.live:
        return end_replica(session, deployment, run, attempt, conclusion, now)
    if deployment.replicas > 1:
        conclusion = run.conclude(deployment, attempt, conclusion)
    _apply_conclusion(session, deployment, attempt, conclusion, now)
    return []


def _ending(deployment: Deployment, attempt: Attempt, observed: Ended) -> Ending:
    return Ending(
        observation=observed.observation,
        launch_error=observed.launch_error,
        launch_retryable=observed.launch_retryable,
        started_at=attempt.started_at,
        stop_reason=StopReason(attempt.stop_reason) if attempt.stop_reason else None,
        stop_requested_at=attempt.stop_requested_at,
        restart_policy=deployment.restart_policy,
        max_retries=deployment.max_retries,
        retries_used=deployment.retries_used,
        retry_exit_codes=deployment.retry_exit_codes or (),
        ram_limit_mib=deployment.ram_mib,
    )


def _apply_conclusion(
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
        # A failed gang keeps the exit code of the replica that failed first.
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
    """Delete the ended deployments that have a delete request; their events stay."""
    await session.flush()
    for deployment in deployments:
        if deployment.delete_requested_at is not None and State(deployment.state) in ENDED:
            await delete_deployment(session, deployment, now=now, actor=RECONCILER)
