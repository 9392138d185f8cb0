"""The verdict on several replicas, and the conclusion of their run."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from hypervisor.lifecycle.conclude import Conclusion, StopReason
from hypervisor.lifecycle.gang import (
    GangStatus,
    Replica,
    ReplicaState,
    conclude_gang,
    gang_status,
    is_late,
    is_success,
    replica_state,
)
from hypervisor.lifecycle.states import State

NEW = Replica()
UP = Replica(started=True)
STOPPING = Replica(started=True, stopping=True)
DONE = Replica(started=True, ended=True, succeeded=True)
FAILED = Replica(started=True, ended=True)
NEVER_UP = Replica(ended=True)
STOPPED = Replica(started=True, stopping=True, ended=True)


@pytest.mark.parametrize(
    ("replicas", "expected"),
    [
        ([NEW], GangStatus.COMING_UP),
        ([UP], GangStatus.UP),
        ([DONE], GangStatus.OVER),
        ([FAILED], GangStatus.OVER),
        ([NEW, NEW], GangStatus.COMING_UP),
        ([UP, NEW], GangStatus.COMING_UP),
        ([UP, UP], GangStatus.UP),
        ([UP, DONE], GangStatus.UP),
        ([NEW, DONE], GangStatus.COMING_UP),
        ([UP, FAILED], GangStatus.BROKEN),
        ([NEW, NEVER_UP], GangStatus.BROKEN),
        ([UP, DONE, FAILED], GangStatus.BROKEN),
        ([UP, STOPPING, FAILED], GangStatus.BROKEN),
        ([STOPPING, FAILED], GangStatus.STOPPING),
        ([STOPPING, STOPPING], GangStatus.STOPPING),
        ([STOPPING, STOPPED], GangStatus.STOPPING),
        ([STOPPING, DONE], GangStatus.STOPPING),
        ([DONE, DONE], GangStatus.OVER),
        ([DONE, FAILED], GangStatus.OVER),
        ([STOPPED, FAILED], GangStatus.OVER),
    ],
)
def test_gang_status(replicas: list[Replica], expected: GangStatus) -> None:
    assert gang_status(replicas) is expected
    assert gang_status(replicas[::-1]) is expected


@pytest.mark.parametrize(
    ("replica", "expected"),
    [
        (NEW, ReplicaState.STARTING),
        (UP, ReplicaState.RUNNING),
        (STOPPING, ReplicaState.STOPPING),
        (DONE, ReplicaState.SUCCEEDED),
        (FAILED, ReplicaState.ENDED),
        (STOPPED, ReplicaState.ENDED),
    ],
)
def test_replica_state(replica: Replica, expected: ReplicaState) -> None:
    assert replica_state(replica) is expected


def ending(state: State, outcome: str = "succeeded", delay: float = 0.0) -> Conclusion:
    return Conclusion(outcome, state, "code", "the last sentence", delay, retries_used=2)


@pytest.mark.parametrize(
    ("last", "all_succeeded", "state_after_stop", "reason", "state", "sentence"),
    [
        (State.SUCCEEDED, True, None, None, State.SUCCEEDED, "the last sentence"),
        (State.FAILED, False, None, None, State.FAILED, "the last sentence"),
        (State.QUEUED, False, None, None, State.QUEUED, "the last sentence"),
        (State.FAILED, False, State.FAILED, StopReason.GANG_FAILED, State.FAILED, "replica 1: broke"),
        (State.FAILED, False, State.QUEUED, StopReason.GANG_FAILED, State.QUEUED, "replica 1: broke"),
        (State.QUEUED, False, State.QUEUED, StopReason.GANG_TIMEOUT, State.QUEUED, "not all replicas"),
        (State.QUEUED, False, State.QUEUED, StopReason.PREEMPTED, State.QUEUED, "preempted"),
        (State.STOPPED, False, State.STOPPED, StopReason.STOPPED, State.STOPPED, "stopped on request"),
        (State.QUEUED, False, State.CANCELLED, StopReason.CANCELLED, State.CANCELLED, "cancelled"),
        (State.SUCCEEDED, False, State.FAILED, None, State.FAILED, "replica 1: broke"),
        (State.SUCCEEDED, True, State.STOPPED, StopReason.STOPPED, State.SUCCEEDED, "the last sentence"),
    ],
)
def test_the_last_end_decides_for_the_whole_run(
    last: State,
    all_succeeded: bool,
    state_after_stop: State | None,
    reason: StopReason | None,
    state: State,
    sentence: str,
) -> None:
    conclusion = conclude_gang(
        ending(last),
        all_succeeded=all_succeeded,
        state_after_stop=state_after_stop,
        stop_reason=reason,
        failure="replica 1: broke",
    )
    assert conclusion.state is state
    assert conclusion.sentence.startswith(sentence)
    assert conclusion.retries_used == 2


def test_only_a_replica_that_succeeds_without_restart_leaves_the_others_running() -> None:
    assert is_success(ending(State.SUCCEEDED))
    assert not is_success(ending(State.QUEUED))
    assert not is_success(ending(State.FAILED, "failed"))


def test_a_gang_is_late_from_its_timeout_on() -> None:
    placed = datetime(2026, 1, 1, tzinfo=UTC)
    assert not is_late(placed, 300, placed + timedelta(seconds=299))
    assert is_late(placed, 300, placed + timedelta(seconds=300))
