"""What a search may spend: steps and not seconds, so that the same input gives the same plan."""

from __future__ import annotations

from typing import Protocol

from hypervisor.scheduling.policy import PackerName


class Watch(Protocol):
    """Is told when each stage of a search begins and ends, and cannot change what it finds."""

    def begin(self) -> None: ...

    def end(self, stage: PackerName, steps: int) -> None:
        """This stage took so many steps."""


class Unwatched:
    """Nobody wants to know."""

    def begin(self) -> None:
        """Nothing happens."""

    def end(self, stage: PackerName, steps: int) -> None:
        """Nothing happens."""


class Steps:
    """One step looks at one item in one bin."""

    __slots__ = ("left",)

    def __init__(self, most: int) -> None:
        self.left = most

    def spend(self, count: int = 1) -> bool:
        """Take that many; False if there were not so many left."""
        self.left -= count
        return self.left >= 0

    def part(self, share: float) -> Steps:
        """A budget of its own, taken from this one; `take_back` returns what it left."""
        given = Steps(int(max(0, self.left) * share))
        self.left -= given.left
        return given

    def take_back(self, part: Steps) -> None:
        self.left += max(0, part.left)
