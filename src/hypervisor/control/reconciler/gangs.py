"""Runs of deployments with several replicas: what the end of one means for the others.

A run is all attempts of one number. Its replicas are placed together, and the deployment follows what
`lifecycle.gang` makes of their states.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import distinct, func, select

from hypervisor.deployments.state.stop import live_attempts, request_stop
from hypervisor.events.log import RECONCILER
from hypervisor.lifecycle.conclude import Conclusion, StopReason, backoff
from hypervisor.lifecycle.gang import GangVerdict, Replica, conclude_gang, gang_verdict, is_late, is_success
from hypervisor.lifecycle.states import State
from hypervisor.store.chunks import chunks
from hypervisor.store.database import ReadSession, WriteSession
from hypervisor.store.tables import Attempt, Deployment

SUCCEEDED = "succeeded"


@dataclass(frozen=True, slots=True)
class GangRun:
    """All attempts of one run, in the order of their replicas; one for most deployments."""

    attempts: tuple[Attempt, ...]

    @property
    def live(self) -> list[Attempt]:
        return [attempt for attempt in self.attempts if attempt.finished_at is None]

    @property
    def verdict(self) -> GangVerdict:
        return gang_verdict([_replica(attempt) for attempt in self.attempts])

    @property
    def is_up(self) -> bool:
        return all(attempt.started_at is not None for attempt in self.attempts)

    @property
    def up_since(self) -> datetime | None:
        """When the last of them had started."""
        started = [attempt.started_at for attempt in self.attempts if attempt.started_at is not None]
        return max(started, default=None)

    @property
    def where(self) -> str:
        nodes = ", ".join(dict.fromkeys(attempt.node_name for attempt in self.attempts))
        who = f"all {len(self.attempts)} replicas run" if len(self.attempts) > 1 else "runs"
        return f"{who} on {nodes}"

    @property
    def failure(self) -> str | None:
        """Which replica failed first, and how."""
        ended = [
            (one.finished_at, one.replica, one.message)
            for one in self.attempts
            if one.finished_at is not None and _failed(one)
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
    """The run of each of these attempts by deployment; the deployments are locked."""
    runs = {attempt.deployment_id: [attempt] for attempt in attempts}
    several = [id_ for id_ in runs if id_ in deployments and deployments[id_].replicas > 1]
    for chunk in chunks(sorted(several)):
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
    return {id_: GangRun(tuple(sorted(run, key=lambda one: one.replica))) for id_, run in runs.items()}


def end_of_one(
    session: WriteSession,
    deployment: Deployment,
    run: GangRun,
    attempt: Attempt,
    conclusion: Conclusion,
    now: datetime,
) -> list[str]:
    """A replica has ended while others live: they go on if it succeeded, else they are asked to stop.

    What becomes of the deployment after that is decided by this first failure. Answers the instances to stop.
    """
    if is_success(conclusion) or run.verdict is GangVerdict.STOPPING:
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
    return [one.instance for one in live]


async def late_gangs(session: ReadSession, now: datetime) -> list[int]:
    """Deployments with several replicas that were placed too long ago and are still not up."""
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
"""Gangs that are not up yet, and when they were placed."""


async def give_up_late(session: WriteSession, deployment_ids: Collection[int], now: datetime) -> list[str]:
    """Stop gangs that were not up in time, whole; they return to the queue with a back-off.

    Answers the instances to stop.
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
        delay = backoff(await _given_up_before(session, id_), random.random())
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


async def _given_up_before(session: WriteSession, deployment_id: int) -> int:
    """How many runs of the deployment were not up in time so far."""
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
    """Whether it ended by itself without success: not by being stopped."""
    return attempt.outcome != SUCCEEDED and attempt.outcome not in set(StopReason)
