"""What a search may spend: steps and not seconds, so that the same input gives the same plan."""

from __future__ import annotations

from typing import Protocol


class SearchObserver(Protocol):
    """Is told when each stage of a search begins and ends, and cannot change what it finds."""

    def stage_started(self) -> None: ...

    def stage_ended(self, stage: str, steps: int) -> None:
        """This stage took so many steps."""


class NullObserver:
    """Nobody wants to know."""

    def stage_started(self) -> None:
        """Nothing happens."""

    def stage_ended(self, stage: str, steps: int) -> None:
        """Nothing happens."""


class StepBudget:
    """One step looks at one item in one bin."""

    __slots__ = ("remaining",)

    def __init__(self, most: int) -> None:
        self.remaining = most

    def spend(self, count: int = 1) -> bool:
        """Take that many; False if there were not so many left."""
        self.remaining -= count
        return self.remaining >= 0

    def split(self, share: float) -> StepBudget:
        """A budget of its own, taken from this one; `take_back` returns what it left."""
        given = StepBudget(int(max(0, self.remaining) * share))
        self.remaining -= given.remaining
        return given

    def return_unused(self, part: StepBudget) -> None:
        self.remaining += max(0, part.remaining)
