"""The backoff of logins."""

from __future__ import annotations

from datetime import timedelta

from hypervisor.identity.policy import backoff, counted_failures
from tests.support.clock import START


def test_waiting_begins_at_the_fifth_failure_and_doubles_up_to_fifteen_minutes() -> None:
    waits = [int(backoff(failures).total_seconds()) for failures in range(17)]
    assert waits == [0, 0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900]
    assert backoff(10**9) == timedelta(minutes=15)


def test_failures_are_forgotten_after_a_day() -> None:
    assert counted_failures(7, START, START + timedelta(hours=23)) == 7
    assert counted_failures(7, START, START + timedelta(hours=24)) == 0
