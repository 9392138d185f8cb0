"""How the replicas of one deployment stand together: up when all are, over when all are, failed with one."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from hypervisor.lifecycle.conclude import Conclusion, StopReason, sentence_after_stop
from hypervisor.lifecycle.states import State


@dataclass(frozen=True, slots=True)
class Replica:
    """One replica of a run: `stopping` says that it was asked to end, `succeeded` how it ended."""

    started: bool = False
    stopping: bool = False
    ended: bool = False
    succeeded: bool = False


class ReplicaState(StrEnum):
    """One replica as people see it."""

    STARTING = "STARTING"
    RUNNING = "RUNNING"
    STOPPING = "STOPPING"
    SUCCEEDED = "SUCCEEDED"
    ENDED = "ENDED"
    """It failed, or was stopped with the others."""


def replica_state(replica: Replica) -> ReplicaState:
    if replica.ended:
        return ReplicaState.SUCCEEDED if replica.succeeded else ReplicaState.ENDED
    if replica.stopping:
        return ReplicaState.STOPPING
    return ReplicaState.RUNNING if replica.started else ReplicaState.STARTING


class GangVerdict(StrEnum):
    """What the replicas of one run come to, taken together."""

    COMING_UP = "coming_up"
    UP = "up"
    """Each of them runs, or has run and succeeded."""
    BROKEN = "broken"
    """One has ended without success while others go on: they have to stop."""
    STOPPING = "stopping"
    """All that live have been asked to end."""
    OVER = "over"
    """All have ended: their states are those of the deployment now."""


def standing(replicas: Collection[Replica]) -> GangVerdict:
    """How a run stands; a deployment with one replica is up, and over, as soon as that one is."""
    live = [replica for replica in replicas if not replica.ended]
    if not live:
        return GangVerdict.OVER
    if all(replica.stopping for replica in live):
        return GangVerdict.STOPPING
    if any(replica.ended and not replica.succeeded for replica in replicas):
        return GangVerdict.BROKEN
    return GangVerdict.UP if all(replica.started for replica in live) else GangVerdict.COMING_UP


def is_late(placed_at: datetime, timeout_seconds: int, now: datetime) -> bool:
    """Whether a gang that is not up yet has had its time."""
    return now >= placed_at + timedelta(seconds=timeout_seconds)


def went_well(conclusion: Conclusion) -> bool:
    """Whether the others may go on after this end; one that restarts by its policy takes them along."""
    return conclusion.state is State.SUCCEEDED


def conclude_gang(
    last: Conclusion,
    *,
    all_succeeded: bool,
    state_after_stop: State | None,
    stop_reason: StopReason | None,
    failure: str | None,
) -> Conclusion:
    """Judge a run whose last replica has ended with the conclusion `last`.

    `state_after_stop` is where the deployment goes after a stop that was asked for (None: there was none);
    `stop_reason` is that stop's, and `failure` says which replica failed and how. A stop that came after
    every replica had succeeded is too late to matter.
    """
    if state_after_stop is None or all_succeeded:
        return last
    reason = stop_reason or StopReason.GANG_FAILED
    sentence = sentence_after_stop(reason)
    if reason is StopReason.GANG_FAILED and failure is not None:
        sentence = failure
    code = reason.value
    return replace(last, outcome=code, state=state_after_stop, code=code, sentence=sentence, delay=0.0)
