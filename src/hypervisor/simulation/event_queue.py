"""The event queue: ends of attempts, releases of evicted attempts, ends of protection."""

from __future__ import annotations

from enum import Enum
from heapq import heapify, heappop, heappush
from math import inf, isfinite

from hypervisor.simulation.jobs import Attempt

_CLEANUP_SLACK = 64
_Entry = tuple[float, int, Attempt, "EventKind"]


class EventKind(Enum):
    """The event of an attempt."""

    END = "end"
    RELEASE = "release"
    UNPROTECTED = "unprotected"


class EventQueue:
    """A heap of events by time.

    The end of an attempt that was evicted is stale. Stale entries are removed before they outnumber the
    others.
    """

    def __init__(self) -> None:
        self._heap: list[_Entry] = []
        self._number = 0
        self._stale = 0

    @property
    def next_time(self) -> float:
        """The time of the first event; infinity without one."""
        while self._heap and _is_stale(self._heap[0]):
            heappop(self._heap)
            self._stale -= 1
        return self._heap[0][0] if self._heap else inf

    def schedule_end(self, attempt: Attempt) -> None:
        """Add the end of a started attempt, and the end of its protection if that is earlier."""
        end = attempt.started_at + attempt.record.job.duration
        if isfinite(end):
            self._push(end, attempt, EventKind.END)
        if attempt.started_at < attempt.protected_until < end:
            self._push(attempt.protected_until, attempt, EventKind.UNPROTECTED)

    def schedule_release(self, attempt: Attempt, at: float) -> None:
        """Add the release of the capacity of an evicted attempt."""
        self._push(at, attempt, EventKind.RELEASE)
        if isfinite(attempt.record.job.duration):
            self._stale += 1
        if self._stale > len(self._heap) // 2 + _CLEANUP_SLACK:
            self._heap = [entry for entry in self._heap if not _is_stale(entry)]
            heapify(self._heap)
            self._stale = 0

    def pop(self) -> tuple[Attempt, EventKind]:
        """Remove and return the first event. Read `next_time` first, because it drops stale entries."""
        _, _, attempt, kind = heappop(self._heap)
        return attempt, kind

    def _push(self, at: float, attempt: Attempt, kind: EventKind) -> None:
        self._number += 1
        heappush(self._heap, (at, self._number, attempt, kind))


def _is_stale(entry: _Entry) -> bool:
    _, _, attempt, kind = entry
    return kind is EventKind.END and attempt.stopped_at is not None
