"""How long ago each loop of this process last got through a turn."""

from __future__ import annotations

from hypervisor.kernel.clock import Clock


class Heartbeats:
    """Loops announce themselves with `expect` and `beat` at every turn; readiness asks who is late."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._within: dict[str, float] = {}
        self._last: dict[str, float] = {}

    def expect(self, name: str, within: float) -> None:
        """From now on `name` beats at least every `within` seconds."""
        self._within[name] = within
        self._last[name] = self._clock.monotonic()

    def beat(self, name: str) -> None:
        self._last[name] = self._clock.monotonic()

    def forget(self, name: str) -> None:
        """`name` has ended as it should."""
        self._within.pop(name, None)
        self._last.pop(name, None)

    def ages(self) -> dict[str, float]:
        """Seconds since the last beat of each loop that is expected."""
        now = self._clock.monotonic()
        return {name: now - self._last[name] for name in self._within}

    def late(self) -> dict[str, float]:
        """The loops that have not beaten for longer than they should, with their ages in seconds."""
        return {name: age for name, age in self.ages().items() if age > self._within[name]}
