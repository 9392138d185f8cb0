"""The cooldown of a deployment after its budget of preemptions within the window."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from hypervisor.control.scheduler.quotas import cooldown_until

START = datetime(2026, 1, 1, tzinfo=UTC)
WINDOW, COOLDOWN = timedelta(minutes=60), timedelta(minutes=30)


@pytest.mark.parametrize(
    ("minutes", "budget", "until"),
    [
        pytest.param([], 1, None, id="never preempted"),
        pytest.param([0], 1, 30, id="the first is enough"),
        pytest.param([0, 10], 3, None, id="too few"),
        pytest.param([0, 10, 60], 3, 90, id="just within the window"),
        pytest.param([0, 10, 61], 3, None, id="just outside of it"),
        pytest.param([20, 0, 10, 40], 3, 70, id="counted from the last, in any order"),
        pytest.param([0, 10, 20, 100], 3, 50, id="a late one does not count"),
    ],
)
def test_the_cooldown_starts_at_the_last_preemption_of_the_budget(
    minutes: list[int], budget: int, until: int | None
) -> None:
    preempted_at = [START + timedelta(minutes=minute) for minute in minutes]
    expected = None if until is None else START + timedelta(minutes=until)
    assert cooldown_until(preempted_at, budget, WINDOW, COOLDOWN) == expected
