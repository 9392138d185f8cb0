"""Gangs: the replicas of one deployment run together, end together, and fail if one of them fails."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from hypervisor.lifecycle.conclude import Conclusion, StopReason, sentence_after_stop
from hypervisor.lifecycle.states import State


@dataclass(frozen=True, slots=True)
class Replica:
    """One replica of a run. `stopping`: its stop was requested; `succeeded`: it ended with success."""

    started: bool = False
    stopping: bool = False
    ended: bool = False
    succeeded: bool = False


class ReplicaState(StrEnum):
    """The state of one replica in API responses."""

    STARTING = "STARTING"
    RUNNING = "RUNNING"
    STOPPING = "STOPPING"
    SUCCEEDED = "SUCCEEDED"
    ENDED = "ENDED"
    """The replica failed, or was stopped with the others."""


def replica_state(replica: Replica) -> ReplicaState:
    if replica.ended:
        return ReplicaState.SUCCEEDED if replica.succeeded else ReplicaState.ENDED
    if replica.stopping:
        return ReplicaState.STOPPING
    return ReplicaState.RUNNING if replica.started else ReplicaState.STARTING


class GangStatus(StrEnum):
    """The state of all replicas of one run together."""

    COMING_UP = "coming_up"
    UP = "up"
    """Each replica runs or has succeeded."""
    BROKEN = "broken"
    """One replica ended without success while others run: the others must stop."""
    STOPPING = "stopping"
    """The stop of all live replicas was requested."""
    OVER = "over"
    """All replicas have ended, and the deployment can be concluded."""


def gang_status(replicas: Collection[Replica]) -> GangStatus:
    """The status of a run. With one replica it is the state of that replica."""
    live = [replica for replica in replicas if not replica.ended]
    if not live:
        return GangStatus.OVER
    if all(replica.stopping for replica in live):
        return GangStatus.STOPPING
    if any(replica.ended and not replica.succeeded for replica in replicas):
        return GangStatus.BROKEN
    return GangStatus.UP if all(replica.started for replica in live) else GangStatus.COMING_UP


def is_late(placed_at: datetime, timeout_seconds: int, now: datetime) -> bool:
    """Whether the gang timeout of a run that is not up yet has passed."""
    return now >= placed_at + timedelta(seconds=timeout_seconds)


def is_success(conclusion: Conclusion) -> bool:
    """Whether the other replicas may continue after this end. A restart by policy restarts all replicas."""
    return conclusion.state is State.SUCCEEDED


def conclude_gang(
    last: Conclusion,
    *,
    all_succeeded: bool,
    state_after_stop: State | None,
    stop_reason: StopReason | None,
    failure: str | None,
) -> Conclusion:
    """The conclusion of a run whose last replica has ended with the conclusion `last`.

    `state_after_stop` is the state after a requested stop, None without one; `stop_reason` is its reason.
    `failure` names the failed replica and its error. A stop after all replicas succeeded has no effect.
    """
    if state_after_stop is None or all_succeeded:
        return last
    reason = stop_reason or StopReason.GANG_FAILED
    sentence = sentence_after_stop(reason)
    if reason is StopReason.GANG_FAILED and failure is not None:
        sentence = failure
    code = reason.value
    return replace(last, outcome=code, state=state_after_stop, code=code, sentence=sentence, delay=0.0)
