"""A heap of nodes by the cost of evictions there, the cheapest first."""

from __future__ import annotations

from heapq import heappop, heappush, heapreplace
from math import inf

import numpy as np

from hypervisor.scheduling.preemption.victims import Cost
from hypervisor.scheduling.snapshots.snapshot import Float64, Int64

Entry = tuple[Cost, int]
_LOWEST = -(1 << 40)


def lower_bound(priority: int, lost: float) -> Cost:
    """The least cost that has this highest victim priority and at least this much lost work."""
    return priority, lost, _LOWEST, 0, -inf


class CostHeap:
    """(cost, node) entries: the first bounds are one sorted list, entries changed since are in a heap.

    Most bounds are never read, so they are sorted as arrays and become entries one at a time.
    """

    __slots__ = ("_heap", "_next", "_rest")

    def __init__(self, levels: Int64, lost: Float64, nodes: Int64) -> None:
        order = np.lexsort((nodes, lost, levels))
        columns = (levels[order].tolist(), lost[order].tolist(), nodes[order].tolist())
        self._rest = zip(*columns, strict=True)
        self._heap: list[Entry] = []
        self._next: Entry | None = None
        self._advance()

    def peek(self) -> Entry | None:
        """The cheapest entry; None if the heap is empty."""
        return self._heap[0] if self._is_changed() else self._next

    def pop(self) -> None:
        """Remove the cheapest entry."""
        if self._is_changed():
            heappop(self._heap)
        else:
            self._advance()

    def replace(self, entry: Entry) -> None:
        """Replace the cheapest entry."""
        if self._is_changed():
            heapreplace(self._heap, entry)
        else:
            heappush(self._heap, entry)
            self._advance()

    def push(self, entry: Entry) -> None:
        """Add an entry."""
        heappush(self._heap, entry)

    def _is_changed(self) -> bool:
        """Whether the cheapest entry was changed since the start."""
        return bool(self._heap) and (self._next is None or self._heap[0] < self._next)

    def _advance(self) -> None:
        entry = next(self._rest, None)
        self._next = None if entry is None else ((entry[0], entry[1], _LOWEST, 0, -inf), entry[2])
