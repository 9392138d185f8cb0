"""Nodes in the same state, so that a score is worked out once for all of them."""

from __future__ import annotations

import numpy as np

from hypervisor.scheduling.capacity.working_state import WorkingState
from hypervisor.scheduling.snapshots.snapshot import Int64, NodeTable

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


class NodeGroups:
    """The nodes that were alike when this was made: capacity, model, labels, state, and what is free.

    `group` is the number of each node's group, `count` how many there are. Who has changed since is left to
    the caller.
    """

    def __init__(self, state: WorkingState) -> None:
        rows = _states(state)
        _, first, group = np.unique(_hashes(rows), return_index=True, return_inverse=True)
        self.group_of: Int64 = group.reshape(-1)
        self.count = len(first)
        if (rows != rows[first][self.group_of]).any():
            # Two states have the same hash: everyone is a group of its own then.
            self.group_of, self.count = np.arange(len(rows)), len(rows)

    def unchanged(self, changed: Int64) -> tuple[Int64, Int64]:
        """Groups that still have an unchanged node, and the first such node of each."""
        still = np.ones(len(self.group_of), np.bool_)
        still[changed] = False
        nodes = np.flatnonzero(still)[::-1]
        first = np.full(self.count, -1)
        first[self.group_of[nodes]] = nodes
        groups = np.flatnonzero(first >= 0)
        return groups, first[groups]


def _states(state: WorkingState) -> Int64:
    """One row per node, equal for nodes that no score and no request could tell apart."""
    nodes = state.nodes
    columns = [
        nodes.cpu_milli,
        nodes.ram_mib,
        nodes.gpu_count,
        nodes.schedulable,
        _descriptions(nodes),
        state.idle_cpu,
        state.idle_ram,
        *state.idle_gpu.T,
    ]
    return np.stack(columns, axis=1).astype(np.int64)


def _descriptions(nodes: NodeTable) -> Int64:
    """Model and labels as a number, equal for equal ones."""
    numbers: dict[object, int] = {}
    described = (
        (model, tuple(sorted(labels.items())) if labels else ())
        for model, labels in zip(nodes.gpu_model, nodes.labels, strict=True)
    )
    found = [numbers.setdefault(description, len(numbers)) for description in described]
    return np.array(found, np.int64)


def _hashes(rows: Int64) -> Int64:
    """A hash of each row: as good as never equal for different rows, and checked by the caller."""
    mixed = np.zeros(len(rows), np.uint64)
    for column in rows.T.astype(np.uint64):
        mixed = (mixed ^ column) * _GOLDEN
        mixed ^= mixed >> np.uint64(29)
    return mixed.view(np.int64)
