"""The queue of a pass: in order, and grouped into equivalence classes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from hypervisor.scheduling.snapshots.requests import Request
from hypervisor.scheduling.snapshots.snapshot import Float64, Int64, Snapshot

_DENSE = 1 << 22


class QueueEntry(NamedTuple):
    """A pending row at its turn.

    `rank` is its position in the queue. `respects_head`: the reservation of the head applies to it.
    `previous_node` is the node of a nomination that it has just lost, else NO_NODE.
    """

    row: int
    rank: int
    request: Request
    respects_head: bool
    previous_node: int


class Queue:
    """Pending rows in queue order, in equivalence classes.

    Rows of a class have the same shape, priority, number of replicas and evictability; on a shared cluster
    also the same organization. Known maximum runtimes are distinguished in steps of a fifth: a short run may
    start where a long one would delay the head of the queue.

    If one row of a class cannot be admitted, no later row of the class can. So a pass over a deep queue that
    changes nothing visits each class once. `representative` is the last row of each class.
    """

    def __init__(self, snapshot: Snapshot, order: Int64) -> None:
        pending = snapshot.pending
        self.pending = pending
        self.order = order
        self._evictable_on_start = pending.preemptible & ~pending.protected
        level = pending.priority.astype(np.int64)
        level -= level.min(initial=0)
        keys = (level * max(1, len(snapshot.shapes)) + pending.shape) * 2 + self._evictable_on_start
        self.any_gangs = bool((pending.replicas > 1).any())
        if self.any_gangs:
            sizes = _numbered(pending.replicas.astype(np.int64) * 2 + pending.spread)
            keys = keys * (int(sizes.max()) + 1) + sizes
        if np.isfinite(pending.max_runtime).any():
            lengths = _length_classes(pending.max_runtime)
            keys = keys * (int(lengths.max()) + 1) + lengths
        if snapshot.quotas:
            keys = keys * (len(snapshot.quotas) + 1) + pending.organization + 1
        self.equivalence_class: Int64 = _numbered(keys)
        self.class_count = int(self.equivalence_class.max(initial=-1)) + 1
        self.representative: Int64 = np.zeros(self.class_count, np.int64)
        self.representative[self.equivalence_class] = np.arange(len(keys))

    def deployment_id(self, row: int) -> int:
        """The id of the deployment in this row."""
        return int(self.pending.deployment_id[row])

    def priority(self, row: int) -> int:
        """Its priority, inherited priority included."""
        return int(self.pending.priority[row])

    def shape(self, row: int) -> int:
        """The index of its shape."""
        return int(self.pending.shape[row])

    def replicas(self, row: int) -> int:
        """How many replicas it has."""
        return int(self.pending.replicas[row])

    def spread(self, row: int) -> bool:
        """Whether its replicas should be on different nodes."""
        return bool(self.pending.spread[row])

    def is_gang(self, row: int) -> bool:
        """Whether it has several replicas, which start all or none."""
        return self.any_gangs and int(self.pending.replicas[row]) > 1

    def evictable_on_start(self, row: int) -> bool:
        """Whether it could be evicted as soon as it runs: preemptible, without a minimum runtime."""
        return bool(self._evictable_on_start[row])

    def rows_of(self, deployment_ids: set[int]) -> dict[int, int]:
        """The pending rows of these deployments, by id; deployments that are not pending are left out."""
        ids = np.fromiter(deployment_ids, np.int64, len(deployment_ids))
        rows = np.flatnonzero(np.isin(self.pending.deployment_id, ids))
        return {int(self.pending.deployment_id[row]): int(row) for row in rows}


def _length_classes(seconds: Float64) -> Int64:
    """0 without a maximum runtime, else a number that rises by 4 with each doubling of it."""
    finite = np.isfinite(seconds)
    classes = np.zeros(len(seconds), np.int64)
    classes[finite] = np.ceil(4 * np.log2(np.maximum(seconds[finite], 1.0))).astype(np.int64) + 1
    return classes


def _numbered(keys: Int64) -> Int64:
    """Equal keys get equal numbers from 0 on. Small keys are numbered by a table, as sorting is slower."""
    if not len(keys):
        return keys
    largest = int(keys.max())
    if largest >= _DENSE:
        return np.unique(keys, return_inverse=True)[1].reshape(-1).astype(np.int64)
    occurs = np.zeros(largest + 1, np.bool_)
    occurs[keys] = True
    numbers: Int64 = np.cumsum(occurs) - 1
    return numbers[keys]
