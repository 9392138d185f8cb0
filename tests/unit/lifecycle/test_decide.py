"""The next action for an attempt, for each desired and observed state."""

from datetime import UTC, datetime, timedelta

import pytest

from hypervisor.kernel.observation import ABSENT, Observation, ObservedState
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
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CREATED = Observation(ObservedState.CREATED)
RUNNING = Observation(ObservedState.RUNNING)
EXITED = Observation(ObservedState.EXITED, exit_code=0)

ASSIGNED = Desired()
STARTED = Desired(started_at=NOW)
TO_STOP = Desired(started_at=NOW, stop_requested_at=NOW, grace_seconds=7)
TO_STOP_EARLY = Desired(stop_requested_at=NOW, grace_seconds=7)


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
