"""What several replicas come to, taken together."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from hypervisor.lifecycle.conclude import Conclusion, StopReason
from hypervisor.lifecycle.gang import (
    GangVerdict,
    Replica,
    ReplicaState,
    conclude_gang,
    is_late,
    replica_state,
    standing,
    went_well,
)
from hypervisor.lifecycle.states import State

NEW = Replica()
UP = Replica(started=True)
LEAVING = Replica(started=True, stopping=True)
DONE = Replica(started=True, ended=True, succeeded=True)
FAILED = Replica(started=True, ended=True)
NEVER_UP = Replica(ended=True)
STOPPED = Replica(started=True, stopping=True, ended=True)


@pytest.mark.parametrize(
    ("replicas", "expected"),
    [
        ([NEW], GangVerdict.COMING_UP),
        ([UP], GangVerdict.UP),
        ([DONE], GangVerdict.OVER),
        ([FAILED], GangVerdict.OVER),
        ([NEW, NEW], GangVerdict.COMING_UP),
        ([UP, NEW], GangVerdict.COMING_UP),
        ([UP, UP], GangVerdict.UP),
        ([UP, DONE], GangVerdict.UP),
        ([NEW, DONE], GangVerdict.COMING_UP),
        ([UP, FAILED], GangVerdict.BROKEN),
        ([NEW, NEVER_UP], GangVerdict.BROKEN),
        ([UP, DONE, FAILED], GangVerdict.BROKEN),
        ([UP, LEAVING, FAILED], GangVerdict.BROKEN),
        ([LEAVING, FAILED], GangVerdict.STOPPING),
        ([LEAVING, LEAVING], GangVerdict.STOPPING),
        ([LEAVING, STOPPED], GangVerdict.STOPPING),
        ([LEAVING, DONE], GangVerdict.STOPPING),
        ([DONE, DONE], GangVerdict.OVER),
        ([DONE, FAILED], GangVerdict.OVER),
        ([STOPPED, FAILED], GangVerdict.OVER),
    ],
)
def test_standing(replicas: list[Replica], expected: GangVerdict) -> None:
    assert standing(replicas) is expected
    assert standing(replicas[::-1]) is expected


@pytest.mark.parametrize(
    ("replica", "expected"),
    [
        (NEW, ReplicaState.STARTING),
        (UP, ReplicaState.RUNNING),
        (LEAVING, ReplicaState.STOPPING),
        (DONE, ReplicaState.SUCCEEDED),
        (FAILED, ReplicaState.ENDED),
        (STOPPED, ReplicaState.ENDED),
    ],
)
def test_replica_state(replica: Replica, expected: ReplicaState) -> None:
    assert replica_state(replica) is expected


def ending(state: State, outcome: str = "succeeded", delay: float = 0.0) -> Conclusion:
    return Conclusion(outcome, state, "code", "its own sentence", delay, retries_used=2)


@pytest.mark.parametrize(
    ("last", "all_succeeded", "state_after_stop", "reason", "state", "sentence"),
    [
        (State.SUCCEEDED, True, None, None, State.SUCCEEDED, "its own sentence"),
        (State.FAILED, False, None, None, State.FAILED, "its own sentence"),
        (State.QUEUED, False, None, None, State.QUEUED, "its own sentence"),
        (State.FAILED, False, State.FAILED, StopReason.GANG_FAILED, State.FAILED, "replica 1: broke"),
        (State.FAILED, False, State.QUEUED, StopReason.GANG_FAILED, State.QUEUED, "replica 1: broke"),
        (State.QUEUED, False, State.QUEUED, StopReason.GANG_TIMEOUT, State.QUEUED, "not all replicas"),
        (State.QUEUED, False, State.QUEUED, StopReason.PREEMPTED, State.QUEUED, "gave way"),
        (State.STOPPED, False, State.STOPPED, StopReason.STOPPED, State.STOPPED, "stopped on request"),
        (State.QUEUED, False, State.CANCELLED, StopReason.CANCELLED, State.CANCELLED, "cancelled"),
        (State.SUCCEEDED, False, State.FAILED, None, State.FAILED, "replica 1: broke"),
        (State.SUCCEEDED, True, State.STOPPED, StopReason.STOPPED, State.SUCCEEDED, "its own sentence"),
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
    found = conclude_gang(
        ending(last),
        all_succeeded=all_succeeded,
        state_after_stop=state_after_stop,
        stop_reason=reason,
        failure="replica 1: broke",
    )
    assert found.state is state
    assert found.sentence.startswith(sentence)
    assert found.retries_used == 2


def test_one_that_restarts_by_its_policy_takes_the_others_along() -> None:
    assert went_well(ending(State.SUCCEEDED))
    assert not went_well(ending(State.QUEUED))
    assert not went_well(ending(State.FAILED, "failed"))


def test_late_from_the_end_of_its_time_on() -> None:
    placed = datetime(2026, 1, 1, tzinfo=UTC)
    assert not is_late(placed, 300, placed + timedelta(seconds=299))
    assert is_late(placed, 300, placed + timedelta(seconds=300))
