"""The queue in its order, without those whose kind has turned out hopeless."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from hypervisor.scheduling.queueing.queue import Queue
from hypervisor.scheduling.snapshots.snapshot import Bool, Int64

_FIRST = 64
_MOST = 8_192


class QueueIterator:
    """Whose turn it is. A kind that was found hopeless is passed over until `grew`.

    Looking ahead a stretch at a time, what is passed over costs nothing in Python: a pass over a deep queue
    with nothing to do takes as many turns as there are kinds.
    """

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._hopeless: Bool = np.zeros(queue.class_count, np.bool_)
        self._growths = 0

    def mark_inadmissible(self, row: int) -> None:
        """Nobody of this row's kind can be admitted any more."""
        self._hopeless[self._queue.equivalence_class[row]] = True

    def on_capacity_freed(self) -> None:
        """Capacity has come back: nothing is hopeless any more."""
        self._hopeless[:] = False
        self._growths += 1

    def walk(self, always: Int64) -> Iterator[tuple[int, int]]:
        """(rank, row) of everyone in turn; the rows in `always` get theirs whatever their kind."""
        order, hopeless = self._queue.order, self._hopeless
        kind, kept = self._queue.equivalence_class[order], np.zeros(len(order), np.bool_)
        if len(always):
            kept = np.isin(order, always)
        start, length = 0, _FIRST
        while start < len(order):
            end = min(start + length, len(order))
            length = min(2 * length, _MOST)
            growths = self._growths
            ranks = np.flatnonzero(~hopeless[kind[start:end]] | kept[start:end]) + start
            start = end
            turns = zip(ranks.tolist(), order[ranks].tolist(), kind[ranks].tolist(), strict=True)
            for rank, row, number in turns:
                if hopeless[number] and not kept[rank]:
                    continue
                yield rank, row
                if growths != self._growths:
                    start, length = rank + 1, _FIRST
                    break
