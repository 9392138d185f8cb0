"""Heartbeats: the time since each loop of this process last finished a turn."""

from __future__ import annotations

from hypervisor.kernel.clock import Clock


class Heartbeats:
    """Loops register with `expect` and call `beat` at every turn; readiness reads `late`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._within: dict[str, float] = {}
        self._last: dict[str, float] = {}

    def expect(self, name: str, within: float) -> None:
        """Expect a beat of `name` at least every `within` seconds from now on."""
        self._within[name] = within
        self._last[name] = self._clock.monotonic()

    def beat(self, name: str) -> None:
        self._last[name] = self._clock.monotonic()

    def forget(self, name: str) -> None:
        """Stop expecting beats of `name`: the loop has ended as planned."""
        self._within.pop(name, None)
        self._last.pop(name, None)

    def ages(self) -> dict[str, float]:
        """Seconds since the last beat of each expected loop."""
        now = self._clock.monotonic()
        return {name: now - self._last[name] for name in self._within}

    def late(self) -> dict[str, float]:
        """The loops whose last beat is too old, with its age in seconds."""
        return {name: age for name, age in self.ages().items() if age > self._within[name]}
