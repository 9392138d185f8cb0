"""The queue in its order, without classes that are marked inadmissible."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from hypervisor.scheduling.queueing.queue import Queue
from hypervisor.scheduling.snapshots.snapshot import Bool, Int64

_FIRST = 64
_MOST = 8_192


class QueueIterator:
    """Iterates over the queue. A class marked inadmissible is skipped until capacity is freed.

    The iterator skips a range of rows at a time, so skipped rows cost nothing in Python. A pass over a deep
    queue that changes nothing takes one step per class.
    """

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._inadmissible: Bool = np.zeros(queue.class_count, np.bool_)
        self._times_freed = 0

    def mark_inadmissible(self, row: int) -> None:
        """Skip the class of this row."""
        self._inadmissible[self._queue.equivalence_class[row]] = True

    def on_capacity_freed(self) -> None:
        """Consider all classes again."""
        self._inadmissible[:] = False
        self._times_freed += 1

    def walk(self, always: Int64) -> Iterator[tuple[int, int]]:
        """(rank, row) in queue order; the rows in `always` are never skipped."""
        order, inadmissible = self._queue.order, self._inadmissible
        class_of, always_visited = self._queue.equivalence_class[order], np.zeros(len(order), np.bool_)
        if len(always):
            always_visited = np.isin(order, always)
        start, length = 0, _FIRST
        while start < len(order):
            end = min(start + length, len(order))
            length = min(2 * length, _MOST)
            times_freed = self._times_freed
            ranks = np.flatnonzero(~inadmissible[class_of[start:end]] | always_visited[start:end]) + start
            start = end
            stretch = zip(ranks.tolist(), order[ranks].tolist(), class_of[ranks].tolist(), strict=True)
            for rank, row, number in stretch:
                if inadmissible[number] and not always_visited[rank]:
                    continue
                yield rank, row
                if times_freed != self._times_freed:
                    start, length = rank + 1, _FIRST
                    break
