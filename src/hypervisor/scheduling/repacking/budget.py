"""The budget of a search: steps instead of seconds, so that the same input gives the same plan."""

from __future__ import annotations

from typing import Protocol


class SearchObserver(Protocol):
    """Sees when each stage of a search starts and ends. It cannot change the result."""

    def stage_started(self) -> None:
        """A stage starts."""

    def stage_ended(self, stage: str, steps: int) -> None:
        """The stage has taken this many steps."""


class NullObserver:
    """Ignores everything."""

    def stage_started(self) -> None:
        """Does nothing."""

    def stage_ended(self, stage: str, steps: int) -> None:
        """Does nothing."""


class StepBudget:
    """The steps that are left. One step examines one item in one bin."""

    __slots__ = ("remaining",)

    def __init__(self, most: int) -> None:
        self.remaining = most

    def spend(self, count: int = 1) -> bool:
        """Spend this many; False if fewer were left."""
        self.remaining -= count
        return self.remaining >= 0

    def split(self, share: float) -> StepBudget:
        """Split off a budget of its own; `return_unused` gives back what it leaves."""
        given = StepBudget(int(max(0, self.remaining) * share))
        self.remaining -= given.remaining
        return given

    def return_unused(self, part: StepBudget) -> None:
        """Take back what a split-off budget has left."""
        self.remaining += max(0, part.remaining)
