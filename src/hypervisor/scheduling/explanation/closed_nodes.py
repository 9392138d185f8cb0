"""Requests that only nodes could take that accept no new work now."""

from __future__ import annotations

import numpy as np

from hypervisor.scheduling.capacity.feasibility import fits_empty_nodes
from hypervisor.scheduling.capacity.replicas import replicas_when_empty
from hypervisor.scheduling.plan_result import Reason, ReasonCode
from hypervisor.scheduling.snapshots.requests import Request
from hypervisor.scheduling.snapshots.snapshot import Bool, NodeTable
from hypervisor.scheduling.snapshots.wording import listed

_MOST_NAMED = 3
_CLOSED = "cordoned, draining or unreachable"


def closed_nodes(nodes: NodeTable, request: Request, matching: Bool, replicas: int = 1) -> Reason | None:
    """The reason if the open nodes could not take the request even when empty, or None.

    `matching` are all nodes that match by model and labels; together they could take it.
    """
    fitting = _fitting(nodes, request, request.eligible, replicas)
    if fitting >= replicas:
        return None
    closed = fits_empty_nodes(nodes, request, matching & ~request.eligible)
    return Reason(
        ReasonCode.NO_SCHEDULABLE_NODE,
        _sentence(nodes, closed, fitting, replicas)
        if request.eligible.any()
        else f"every node that matches is {_CLOSED}",
        request.shape.resources,
        suggestion="uncordon a node, or wait until one is reachable again",
    )


def _fitting(nodes: NodeTable, request: Request, eligible: Bool, replicas: int) -> int:
    """How many replicas these nodes could take if nothing else ran there; at most 1 of a single one."""
    if replicas > 1:
        return replicas_when_empty(nodes, request, eligible)
    return int(fits_empty_nodes(nodes, request, eligible).any())


def _sentence(nodes: NodeTable, closed: Bool, fitting: int, replicas: int) -> str:
    rows = np.flatnonzero(closed).tolist()
    names = [nodes.name[row] for row in rows[:_MOST_NAMED]]
    names += [f"{len(rows) - _MOST_NAMED} more"] if len(rows) > _MOST_NAMED else []
    verb = "is" if len(rows) == 1 else "are"
    if replicas > 1:
        open_ones = (
            f"the open nodes could take only {fitting} of {replicas} replicas even if nothing else ran"
        )
        return f"{open_ones}; {listed(names)} {verb} {_CLOSED}"
    return f"no open node could take it even if nothing else ran; {listed(names)} could, but {verb} {_CLOSED}"
