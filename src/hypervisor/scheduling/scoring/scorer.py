"""What every placement score answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from hypervisor.scheduling.snapshots.requests import Request
from hypervisor.scheduling.snapshots.snapshot import Int32, Int64

INFEASIBLE = 1 << 30
"""Losses from here on say that the request does not fit."""


class ScoreColumn(Protocol):
    """The losses of a fixed sequence of requests on one node at a time."""

    def at(self, node: int) -> Int32:
        """One loss per request as the node is now, the same as `Scorer.losses`; at least NEVER where the
        request does not fit. Models, labels and the node's state are left to the caller."""
        ...


class Scorer(Protocol):
    """A score over nodes, in integers so that no rounding depends on the order of a sum."""

    def score(self, request: Request, nodes: Int64) -> Int64:
        """The loss of placing the request on each of these nodes, lower is better, its amount below NEVER.

        What it says of nodes on which the request does not fit means nothing; the caller masks them.
        """
        ...

    def column(self, requests: Sequence[Request]) -> ScoreColumn:
        """The same by node instead of by request."""
        ...

    def rank_devices(self, request: Request, node: int, devices: list[int]) -> list[int]:
        """The devices that a fractional request could use on the node, the best first."""
        ...
