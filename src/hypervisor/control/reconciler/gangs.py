"""Runs of deployments with several replicas: the effect of the end of one replica on the others.

A run is all attempts with one number. Its replicas are placed together, and `lifecycle.gang` derives the
state of the deployment from theirs.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import distinct, func, select

from hypervisor.deployments.state.stop import live_attempts, request_stop
from hypervisor.events.log import RECONCILER
from hypervisor.kernel.randomness import Random
from hypervisor.lifecycle.conclude import Conclusion, StopReason, backoff
from hypervisor.lifecycle.gang import GangStatus, Replica, conclude_gang, gang_status, is_late, is_success
from hypervisor.lifecycle.states import State
from hypervisor.store.chunks import chunks
from hypervisor.store.database import ReadSession, WriteSession
from hypervisor.store.tables import Attempt, Deployment

SUCCEEDED = "succeeded"


@dataclass(frozen=True, slots=True)
class GangRun:
    """All attempts of one run, in the order of their replicas; most deployments have one."""

    attempts: tuple[Attempt, ...]

    @property
    def live(self) -> list[Attempt]:
        return [attempt for attempt in self.attempts if attempt.finished_at is None]

    @property
    def status(self) -> GangStatus:
        return gang_status([_replica(attempt) for attempt in self.attempts])

    @property
    def is_up(self) -> bool:
        return all(attempt.started_at is not None for attempt in self.attempts)

    @property
    def up_since(self) -> datetime | None:
        """When the last replica started."""
        started = [attempt.started_at for attempt in self.attempts if attempt.started_at is not None]
        return max(started, default=None)

    @property
    def running_sentence(self) -> str:
        """The event sentence for the start, such as "runs on node-1"."""
        nodes = ", ".join(dict.fromkeys(attempt.node_name for attempt in self.attempts))
        verb = f"all {len(self.attempts)} replicas run" if len(self.attempts) > 1 else "runs"
        return f"{verb} on {nodes}"

    @property
    def failure(self) -> str | None:
        """Which replica failed first, and how."""
        ended = [
            (attempt.finished_at, attempt.replica, attempt.message)
            for attempt in self.attempts
            if attempt.finished_at is not None and _failed(attempt)
        ]
        if not ended:
            return None
        _, replica, message = min(ended)
        return f"replica {replica}: {message}"

    def conclude(self, deployment: Deployment, last: Attempt, own: Conclusion) -> Conclusion:
        """The conclusion of the whole run once its last replica has ended with `own`."""
        return conclude_gang(
            own,
            all_succeeded=all(attempt.outcome == SUCCEEDED for attempt in self.attempts),
            state_after_stop=State(deployment.state_after_stop) if deployment.state_after_stop else None,
            stop_reason=StopReason(last.stop_reason) if last.stop_reason else None,
            failure=self.failure,
        )


async def load_runs(
    session: WriteSession, attempts: Collection[Attempt], deployments: Mapping[int, Deployment]
) -> dict[int, GangRun]:
    """The run of each of these attempts by deployment; the caller has locked the deployments."""
    runs = {attempt.deployment_id: [attempt] for attempt in attempts}
    gang_ids = [id_ for id_ in runs if id_ in deployments and deployments[id_].replicas > 1]
    for chunk in chunks(sorted(gang_ids)):
        rows = await session.scalars(
            select(Attempt)
            .join(Deployment, Deployment.id == Attempt.deployment_id)
            .where(Deployment.id.in_(chunk), Attempt.number == Deployment.attempts_made)
            .order_by(Attempt.id)
            .with_for_update(of=Attempt)
        )
        for id_ in chunk:
            runs[id_] = []
        for attempt in rows:
            runs[attempt.deployment_id].append(attempt)
    return {
        id_: GangRun(tuple(sorted(run, key=lambda attempt: attempt.replica))) for id_, run in runs.items()
    }


def end_replica(
    session: WriteSession,
    deployment: Deployment,
    run: GangRun,
    attempt: Attempt,
    conclusion: Conclusion,
    now: datetime,
) -> list[str]:
    """Handle the end of a replica while others live: if it did not succeed, request the stop of the others.

    This first failure decides the next state of the deployment. Returns the instances to stop.
    """
    if is_success(conclusion) or run.status is GangStatus.STOPPING:
        return []
    deployment.retries_used = conclusion.retries_used
    deployment.exit_code = attempt.exit_code
    if conclusion.delay:
        deployment.not_before = now + timedelta(seconds=conclusion.delay)
    live = run.live
    request_stop(
        session,
        deployment,
        live,
        StopReason.GANG_FAILED,
        now=now,
        actor=RECONCILER,
        sentence=f"replica {attempt.replica}: {conclusion.sentence}; the other replicas are stopped",
        data={"attempt": attempt.number, "replica": attempt.replica, "outcome": conclusion.outcome},
        then=conclusion.state,
    )
    return [attempt.instance for attempt in live]


async def late_gangs(session: ReadSession, now: datetime) -> list[int]:
    """The gangs that are still not up after their `gang_timeout_seconds`."""
    rows = await session.execute(_STARTING)
    return [id_ for id_, timeout, placed_at in rows if is_late(placed_at, timeout, now)]


_STARTING = (
    select(Deployment.id, Deployment.gang_timeout_seconds, func.min(Attempt.created_at))
    .join(Attempt, Attempt.deployment_id == Deployment.id)
    .where(
        Deployment.state == State.STARTING.value,
        Deployment.replicas > 1,
        Attempt.finished_at.is_(None),
    )
    .group_by(Deployment.id, Deployment.gang_timeout_seconds)
)
"""The gangs that are not up yet, with their timeout and the time of their placement."""


async def stop_late_gangs(
    session: WriteSession, deployment_ids: Collection[int], now: datetime, random: Random
) -> list[str]:
    """Stop all replicas of gangs that were not up in time; they return to the queue with a back-off.

    Returns the instances to stop.
    """
    stopping: list[str] = []
    for id_ in sorted(deployment_ids):
        deployment = await session.get(Deployment, id_, with_for_update=True, populate_existing=True)
        if deployment is None or deployment.state != State.STARTING.value:
            continue
        live = (await live_attempts(session, [id_])).get(id_, [])
        if not live or not is_late(live[0].created_at, deployment.gang_timeout_seconds, now):
            continue
        up = sum(attempt.started_at is not None for attempt in live)
        delay = backoff(await _count_timeouts(session, id_), random.random())
        deployment.not_before = now + timedelta(seconds=delay)
        request_stop(
            session,
            deployment,
            live,
            StopReason.GANG_TIMEOUT,
            now=now,
            actor=RECONCILER,
            sentence=f"only {up} of {deployment.replicas} replicas were up within "
            f"{deployment.gang_timeout_seconds} s; all stop and are queued again",
            data={"attempt": live[0].number, "up": up, "retry_in_seconds": round(delay)},
        )
        stopping += [attempt.instance for attempt in live]
    return stopping


async def _count_timeouts(session: WriteSession, deployment_id: int) -> int:
    """The number of runs of the deployment that were not up in time."""
    found = await session.scalar(
        select(func.count(distinct(Attempt.number))).where(
            Attempt.deployment_id == deployment_id,
            Attempt.stop_reason == StopReason.GANG_TIMEOUT.value,
        )
    )
    return found or 0


def _replica(attempt: Attempt) -> Replica:
    return Replica(
        started=attempt.started_at is not None,
        stopping=attempt.stop_requested_at is not None,
        ended=attempt.finished_at is not None,
        succeeded=attempt.outcome == SUCCEEDED,
    )


def _failed(attempt: Attempt) -> bool:
    """Whether the attempt ended by itself without success, rather than by a stop."""
    return attempt.outcome != SUCCEEDED and attempt.outcome not in set(StopReason)
