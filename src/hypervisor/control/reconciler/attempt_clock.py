"""The time by which the age of a workload is judged, whatever becomes of the wall clock."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta

from hypervisor.kernel.clock import Clock


class AttemptClock:
    """For each instance the wall clock as it was when this process first looked at it, and from there on the
    monotonic one: a wall clock that is set makes nothing older or younger that is looked after already.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._first_seen: dict[str, tuple[datetime, float]] = {}

    def now(self, instance: str) -> datetime:
        """The present as seen from the first look at the instance."""
        monotonic = self._clock.monotonic()
        began, at = self._first_seen.setdefault(instance, (self._clock.now(), monotonic))
        return began + timedelta(seconds=monotonic - at)

    def retain(self, instances: Collection[str]) -> None:
        """Forget all others."""
        for gone in self._first_seen.keys() - set(instances):
            del self._first_seen[gone]
