"""Randomness as an argument: jitter and names are drawn from one of these, so that a simulation can seed it.

Secrets and ids that must not be guessed are made by `hypervisor.infra.randomness` alone.
"""

from __future__ import annotations

from typing import Protocol


class Random(Protocol):
    """What the server uses of `random.Random`."""

    def random(self) -> float:
        """A number from 0 to below 1."""
        ...

    def uniform(self, a: float, b: float) -> float:
        """A number from `a` to `b`."""
        ...

    def getrandbits(self, k: int, /) -> int:
        """An integer of `k` random bits."""
        ...
