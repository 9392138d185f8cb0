"""What every placement score answers."""

from __future__ import annotations

from typing import Protocol

from hypervisor.scheduling.requests import Request
from hypervisor.scheduling.snapshot import Int64


class Scorer(Protocol):
    """A score over nodes, in integers so that no rounding depends on the order of a sum."""

    def losses(self, request: Request, nodes: Int64) -> Int64:
        """The loss of placing the request on each of these nodes, lower is better.

        What it says of nodes on which the request does not fit means nothing; the caller masks them.
        """
        ...

    def rank_devices(self, request: Request, node: int, devices: list[int]) -> list[int]:
        """The devices that a fractional request could use on the node, the best first."""
        ...

    def refresh(self, nodes: Int64) -> None:
        """The free capacity of these nodes has changed."""
        ...
