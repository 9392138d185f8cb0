"""What is going to happen: ends of work, and releases of what was evicted."""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from math import inf, isfinite

from hypervisor.simulation.observer import Attempt

_SLACK = 64
_Entry = tuple[float, int, Attempt, bool]


class Agenda:
    """A heap of (time, attempt). Ends of attempts that were evicted meanwhile are void, and are cleared out
    before they outnumber the others."""

    def __init__(self) -> None:
        self._heap: list[_Entry] = []
        self._number = 0
        self._void = 0

    @property
    def next(self) -> float:
        """When the first of them happens; infinity where nothing will."""
        while self._heap and _is_void(self._heap[0]):
            heappop(self._heap)
            self._void -= 1
        return self._heap[0][0] if self._heap else inf

    def ends(self, attempt: Attempt) -> None:
        """It has its work done at its start plus its duration, which may be never."""
        at = attempt.started_at + attempt.ticket.job.duration
        if isfinite(at):
            self._push(at, attempt, False)

    def releases(self, attempt: Attempt, at: float) -> None:
        """It was evicted, and gives its capacity back at that time."""
        self._push(at, attempt, True)
        if isfinite(attempt.ticket.job.duration):
            self._void += 1
        if self._void > len(self._heap) // 2 + _SLACK:
            self._heap = [entry for entry in self._heap if not _is_void(entry)]
            heapify(self._heap)
            self._void = 0

    def pop(self) -> Attempt:
        """The first one; call `next` before."""
        return heappop(self._heap)[2]

    def _push(self, at: float, attempt: Attempt, release: bool) -> None:
        self._number += 1
        heappush(self._heap, (at, self._number, attempt, release))


def _is_void(entry: _Entry) -> bool:
    _, _, attempt, release = entry
    return not release and attempt.stopped_at is not None
