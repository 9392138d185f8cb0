"""Clocks that a test moves or sets wrong."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypervisor.infra.clock import SystemClock

START = datetime(2030, 1, 1, tzinfo=UTC)


class FakeClock:
    """Implements `hypervisor.kernel.clock.Clock`; wall clock and monotonic clock advance together."""

    def __init__(self, start: datetime = START) -> None:
        self._now = start
        self._monotonic = 0.0

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    def advance(self, by: float | timedelta) -> datetime:
        """Move both clocks forward by seconds or a timedelta; returns the new wall time."""
        step = by if isinstance(by, timedelta) else timedelta(seconds=by)
        if step < timedelta(0):
            raise ValueError("time only goes forward; use jump() for a wall clock that was set back")
        self._monotonic += step.total_seconds()
        self._now += step
        return self._now

    def jump(self, by: timedelta) -> datetime:
        """Set the wall clock forward or back without the monotonic clock, as NTP may."""
        self._now += by
        return self._now


class ClockThatIsSet(SystemClock):
    """The machine's clocks, with an `error` of the wall clock."""

    def __init__(self) -> None:
        self.error = timedelta(0)

    def now(self) -> datetime:
        return super().now() + self.error
