"""The clock for the age of attempts, independent of changes to the wall clock."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta

from hypervisor.kernel.clock import Clock


class AttemptClock:
    """For each instance, the wall clock at the first observation by this process plus monotonic time since.

    Setting the wall clock does not change the age of the instances that this process drives already.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._first_seen: dict[str, tuple[datetime, float]] = {}

    def now(self, instance: str) -> datetime:
        """The current time for the instance."""
        monotonic = self._clock.monotonic()
        wall_time, first_monotonic = self._first_seen.setdefault(instance, (self._clock.now(), monotonic))
        return wall_time + timedelta(seconds=monotonic - first_monotonic)

    def retain(self, instances: Collection[str]) -> None:
        """Drop all other instances."""
        for ended in self._first_seen.keys() - set(instances):
            del self._first_seen[ended]
