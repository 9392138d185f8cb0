"""The queue as a pass sees it: in order, and grouped into kinds that are decided alike."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from hypervisor.scheduling.snapshots.requests import Request
from hypervisor.scheduling.snapshots.snapshot import Float64, Int64, Snapshot

_DENSE = 1 << 22


class QueueEntry(NamedTuple):
    """A pending row at its turn.

    `rank` is its place in the queue order. `respects_head` says whether the reservation of the head binds it.
    `previous_node` is the node of a nomination that it has just lost, else NO_NODE.
    """

    row: int
    rank: int
    request: Request
    respects_head: bool
    previous_node: int


class Queue:
    """Pending rows in queue order. A kind is a shape at a priority, in as many replicas, that yields or not;
    on a shared cluster also of one organization. Known maximum runtimes are told apart in steps of a fifth:
    a short one may start where the head of the queue would be held up by a long one.

    `yields` says that it could be evicted as soon as it runs: preemptible and without a minimum runtime.
    When one member of a kind could not be admitted, those behind it cannot either, so a pass over a deep
    queue with nothing to do is a pass over the kinds.
    """

    def __init__(self, snapshot: Snapshot, order: Int64) -> None:
        pending = snapshot.pending
        self.pending = pending
        self.order = order
        self._yields = pending.preemptible & ~pending.protected
        level = pending.priority.astype(np.int64)
        level -= level.min(initial=0)
        keys = (level * max(1, len(snapshot.shapes)) + pending.shape) * 2 + self._yields
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
        return int(self.pending.deployment_id[row])

    def priority(self, row: int) -> int:
        return int(self.pending.priority[row])

    def shape(self, row: int) -> int:
        return int(self.pending.shape[row])

    def replicas(self, row: int) -> int:
        return int(self.pending.replicas[row])

    def spread(self, row: int) -> bool:
        return bool(self.pending.spread[row])

    def is_gang(self, row: int) -> bool:
        return self.any_gangs and int(self.pending.replicas[row]) > 1

    def evictable_on_start(self, row: int) -> bool:
        return bool(self._yields[row])

    def rows_of(self, deployment_ids: set[int]) -> dict[int, int]:
        """Pending rows of these deployments, by id; those that are not pending are left out."""
        wanted = np.fromiter(deployment_ids, np.int64, len(deployment_ids))
        rows = np.flatnonzero(np.isin(self.pending.deployment_id, wanted))
        return {int(self.pending.deployment_id[row]): int(row) for row in rows}


def _length_classes(seconds: Float64) -> Int64:
    """0 where there is no maximum runtime, else a number that rises by 4 with each doubling of it."""
    finite = np.isfinite(seconds)
    classes = np.zeros(len(seconds), np.int64)
    classes[finite] = np.ceil(4 * np.log2(np.maximum(seconds[finite], 1.0))).astype(np.int64) + 1
    return classes


def _numbered(keys: Int64) -> Int64:
    """Equal keys get equal numbers from 0 on; by a table where the keys allow one, as sorting is slower."""
    if not len(keys):
        return keys
    largest = int(keys.max())
    if largest >= _DENSE:
        return np.unique(keys, return_inverse=True)[1].reshape(-1).astype(np.int64)
    occurs = np.zeros(largest + 1, np.bool_)
    occurs[keys] = True
    numbers: Int64 = np.cumsum(occurs) - 1
    return numbers[keys]
