"""The next action for an attempt, for each desired and observed state."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypervisor.kernel.observation import ABSENT, Health, Observation, ObservedState
from hypervisor.lifecycle.decide import (
    Action,
    Desired,
    Expire,
    Finish,
    Launch,
    MarkRunning,
    RequestStop,
    Wait,
    decide,
    was_restarted,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CREATED = Observation(ObservedState.CREATED)
RUNNING = Observation(ObservedState.RUNNING)
EXITED = Observation(ObservedState.EXITED, exit_code=0)

ASSIGNED = Desired()
STARTED = Desired(started_at=NOW)
TO_STOP = Desired(started_at=NOW, stop_requested_at=NOW, grace_seconds=7)
TO_STOP_EARLY = Desired(stop_requested_at=NOW, grace_seconds=7)
ENDED = Desired(started_at=NOW, end=EXITED)
RUNS_AGAIN = Observation(ObservedState.RUNNING, started_at=NOW + timedelta(seconds=1))
"""An instance with a recorded end, and one that was started after the recorded start."""


@pytest.mark.parametrize(
    ("desired", "observed", "action"),
    [
        (ASSIGNED, ABSENT, Launch()),
        (ASSIGNED, CREATED, Launch()),
        (ASSIGNED, RUNNING, MarkRunning()),
        (ASSIGNED, EXITED, Finish()),
        (STARTED, RUNNING, Wait()),
        (STARTED, EXITED, Finish()),
        (STARTED, ABSENT, Finish()),
        (TO_STOP, RUNNING, RequestStop(7)),
        (TO_STOP, EXITED, Finish()),
        (TO_STOP, ABSENT, Finish()),
        (TO_STOP_EARLY, ABSENT, Finish()),
        (TO_STOP_EARLY, CREATED, RequestStop(7)),
        (TO_STOP_EARLY, RUNNING, RequestStop(7)),
        (STARTED, RUNS_AGAIN, MarkRunning()),
        (replace(STARTED, restarted_at=RUNS_AGAIN.started_at), RUNS_AGAIN, Wait()),
        (ENDED, RUNNING, MarkRunning()),
        (ENDED, EXITED, Finish()),
        (ENDED, ABSENT, Finish()),
        (Desired(end=EXITED), CREATED, Finish()),
        (replace(TO_STOP, end=EXITED), RUNNING, RequestStop(7)),
        (replace(TO_STOP, end=EXITED), ABSENT, Finish()),
        (STARTED, replace(RUNNING, health=Health.UNHEALTHY), MarkRunning()),
        (replace(STARTED, health=Health.UNHEALTHY), replace(RUNNING, health=Health.UNHEALTHY), Wait()),
        (replace(STARTED, health=Health.UNHEALTHY), RUNNING, MarkRunning()),
    ],
)
def test_each_combination_has_its_action(desired: Desired, observed: Observation, action: Action) -> None:
    assert decide(desired, observed, NOW) == action


@pytest.mark.parametrize("desired", [ASSIGNED, STARTED, TO_STOP, TO_STOP_EARLY])
def test_an_unreachable_engine_leads_to_no_action(desired: Desired) -> None:
    assert decide(desired, None, NOW) == Wait()


def test_max_runtime_is_a_deadline_and_then_an_end() -> None:
    desired = Desired(started_at=NOW, max_runtime_seconds=60)
    deadline = NOW + timedelta(seconds=60)
    assert decide(desired, RUNNING, NOW) == Wait(until=deadline)
    assert decide(desired, RUNNING, deadline) == Expire()


def test_a_restart_from_outside_does_not_extend_max_runtime() -> None:
    desired = Desired(started_at=NOW, max_runtime_seconds=60, restarted_at=RUNS_AGAIN.started_at)
    deadline = NOW + timedelta(seconds=60)
    assert decide(desired, RUNS_AGAIN, NOW) == Wait(until=deadline)
    assert decide(desired, replace(RUNS_AGAIN, health=Health.UNHEALTHY), deadline) == Expire()


@given(st.integers(-(10**6), 10**6))
def test_start_times_that_a_database_rounds_are_one_start(microseconds: int) -> None:
    observed = NOW + timedelta(microseconds=microseconds)
    assert was_restarted(NOW, None, observed) == (abs(microseconds) > 1000)
    assert not was_restarted(None, None, observed)
    assert not was_restarted(NOW, observed, observed)
