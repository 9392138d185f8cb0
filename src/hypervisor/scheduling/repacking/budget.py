"""The budget of a search: steps instead of seconds, so that the same input gives the same plan."""

from __future__ import annotations

from typing import Protocol


class SearchObserver(Protocol):
    """Called when each stage of a search starts and ends. It cannot change the result."""

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
        """Spend `count` steps; False if fewer were left."""
        self.remaining -= count
        return self.remaining >= 0

    def split(self, share: float) -> StepBudget:
        """Split off a part of the budget; `return_unused` returns its unused steps."""
        part = StepBudget(int(max(0, self.remaining) * share))
        self.remaining -= part.remaining
        return part

    def return_unused(self, part: StepBudget) -> None:
        """Add the unused steps of a split-off part."""
        self.remaining += max(0, part.remaining)
