"""Groups of nodes in the same state: a score is computed once per group."""

from __future__ import annotations

import numpy as np

from hypervisor.scheduling.capacity.working_state import WorkingState
from hypervisor.scheduling.snapshots.snapshot import Int64, NodeTable

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


class NodeGroups:
    """Nodes with the same capacity, model, labels, state and idle capacity when this was made.

    `group_of` has the number of each node's group; `count` is the number of groups. The caller keeps track of
    nodes that change afterwards.
    """

    def __init__(self, state: WorkingState) -> None:
        rows = _states(state)
        _, first, group = np.unique(_hashes(rows), return_index=True, return_inverse=True)
        self.group_of: Int64 = group.reshape(-1)
        self.count = len(first)
        if (rows != rows[first][self.group_of]).any():
            # Two states have the same hash: make one group per node.
            self.group_of, self.count = np.arange(len(rows)), len(rows)

    def unchanged(self, changed: Int64) -> tuple[Int64, Int64]:
        """The groups that still have an unchanged node, and the first such node of each."""
        still = np.ones(len(self.group_of), np.bool_)
        still[changed] = False
        nodes = np.flatnonzero(still)[::-1]
        first = np.full(self.count, -1)
        first[self.group_of[nodes]] = nodes
        groups = np.flatnonzero(first >= 0)
        return groups, first[groups]


def _states(state: WorkingState) -> Int64:
    """One row per node; rows are equal for nodes that every score and request treats alike."""
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
    """Model and labels of each node as a number, equal for equal ones."""
    numbers: dict[object, int] = {}
    described = (
        (model, tuple(sorted(labels.items())) if labels else ())
        for model, labels in zip(nodes.gpu_model, nodes.labels, strict=True)
    )
    found = [numbers.setdefault(description, len(numbers)) for description in described]
    return np.array(found, np.int64)


def _hashes(rows: Int64) -> Int64:
    """A hash of each row. Different rows almost never share one; the caller checks."""
    mixed = np.zeros(len(rows), np.uint64)
    for column in rows.T.astype(np.uint64):
        mixed = (mixed ^ column) * _GOLDEN
        mixed ^= mixed >> np.uint64(29)
    return mixed.view(np.int64)
