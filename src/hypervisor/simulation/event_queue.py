"""What is going to happen: ends of work, releases of what was evicted, lapses of protection."""

from __future__ import annotations

from enum import Enum
from heapq import heapify, heappop, heappush
from math import inf, isfinite

from hypervisor.simulation.jobs import Attempt

_SLACK = 64
_Entry = tuple[float, int, Attempt, "EventKind"]


class EventKind(Enum):
    """What becomes of an attempt."""

    END = "end"
    RELEASE = "release"
    LAPSE = "lapse"


class EventQueue:
    """A heap of (time, attempt). Ends of attempts that were evicted meanwhile are void, and are cleared out
    before they outnumber the others."""

    def __init__(self) -> None:
        self._heap: list[_Entry] = []
        self._number = 0
        self._void = 0

    @property
    def next_time(self) -> float:
        """When the first of them happens; infinity where nothing will."""
        while self._heap and _is_void(self._heap[0]):
            heappop(self._heap)
            self._void -= 1
        return self._heap[0][0] if self._heap else inf

    def schedule_end(self, attempt: Attempt) -> None:
        """It has its work done at its start plus its duration, which may be never. Before that its protection
        may lapse; nobody evicts it earlier."""
        at = attempt.started_at + attempt.record.job.duration
        if isfinite(at):
            self._push(at, attempt, EventKind.END)
        if attempt.started_at < attempt.protected_until < at:
            self._push(attempt.protected_until, attempt, EventKind.LAPSE)

    def schedule_release(self, attempt: Attempt, at: float) -> None:
        """It was evicted, and gives its capacity back at that time."""
        self._push(at, attempt, EventKind.RELEASE)
        if isfinite(attempt.record.job.duration):
            self._void += 1
        if self._void > len(self._heap) // 2 + _SLACK:
            self._heap = [entry for entry in self._heap if not _is_void(entry)]
            heapify(self._heap)
            self._void = 0

    def pop(self) -> tuple[Attempt, EventKind]:
        """The first one; call `next` before."""
        _, _, attempt, turn = heappop(self._heap)
        return attempt, turn

    def _push(self, at: float, attempt: Attempt, turn: EventKind) -> None:
        self._number += 1
        heappush(self._heap, (at, self._number, attempt, turn))


def _is_void(entry: _Entry) -> bool:
    _, _, attempt, turn = entry
    return turn is EventKind.END and attempt.stopped_at is not None
