"""The interface of a placement policy: a score over nodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from hypervisor.scheduling.snapshots.requests import Request
from hypervisor.scheduling.snapshots.snapshot import Int32, Int64

INFEASIBLE = 1 << 30
"""A score of at least this value means that the request does not fit."""


class ScoreColumn(Protocol):
    """The scores of a fixed sequence of requests, on one node at a time."""

    def at(self, node: int) -> Int32:
        """One score per request on the node as it is now, equal to `Scorer.score`.

        At least INFEASIBLE where the amounts do not fit. The caller checks models, labels and node state.
        """
        ...


class Scorer(Protocol):
    """A score over nodes, in integers so that no rounding depends on the order of a sum."""

    def score(self, request: Request, nodes: Int64) -> Int64:
        """The score of placing the request on each of these nodes: lower is better, below INFEASIBLE.

        The caller masks nodes on which the request does not fit; their scores have no meaning.
        """
        ...

    def column(self, requests: Sequence[Request]) -> ScoreColumn:
        """The scores by node instead of by request."""
        ...

    def rank_devices(self, request: Request, node: int, devices: list[int]) -> list[int]:
        """The devices that a fractional request could use on the node, the best first."""
        ...
