"""Finds the place where the last lines of a container's log begin.

The engine's `tail` counts records, and a long line is several. So the place is found by the times of records.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Final

from hypervisor.runtimes.docker.log_place import Mark, Place
from hypervisor.runtimes.docker.log_records import STDERR, STDOUT, LineEnds, Record

Read = Callable[[Mapping[str, str]], AsyncIterator[list[Record]]]

# How many times more records each search for the beginning of the last lines reads.
_MORE: Final = 16
# The most lines that end before, and begin after, a line of the other stream.
_OUT_OF_ORDER: Final = 1000


async def place_of_tail(read: Read, tail: int | None, *, lacks_line_ends: bool) -> Place:
    """The place before the last `tail` lines; None: before all stored output.

    `read` returns the records of a window. `lacks_line_ends`: see `LineEnds`.
    """
    if tail is None:
        return Place()
    if not tail:
        return await _end(read)
    limit = tail + 1
    while True:
        times, count, line_ends = _LineTimes(tail), 0, LineEnds({})
        async for records in read({"tail": str(limit)}):
            times.feed(line_ends.restore(records) if lacks_line_ends else records)
            count += len(records)
        if count < limit:
            return times.begin()
        if place := times.place():
            return place
        limit *= _MORE


async def _end(read: Read) -> Place:
    """The place after all records."""
    place = Place()
    times: deque[bytes] = deque(maxlen=_OUT_OF_ORDER)
    async for records in read({"tail": str(_OUT_OF_ORDER)}):
        place = place.after(records)
        times.extend(record.time for record in records)
    marks = dict(place.marks)
    if len(times) == _OUT_OF_ORDER:
        # A stream without one of these records: its next one is later than the middle of them.
        for stream in (STDOUT, STDERR):
            marks.setdefault(stream, Mark(times[_OUT_OF_ORDER // 2], 0))
    return Place(marks)


class _LineTimes:
    """Collects the times at which lines begin, and finds where the last `tail` lines begin."""

    def __init__(self, tail: int) -> None:
        self._tail = tail
        self._first = b""
        self._finished = 0
        self._begins: deque[bytes] = deque(maxlen=tail + _OUT_OF_ORDER)
        self._unfinished: dict[int, bytes] = {}

    def feed(self, records: Iterable[Record]) -> None:
        for record in records:
            self._first = self._first or record.time
            begin = self._unfinished.setdefault(record.stream, record.time)
            if record.data.endswith(b"\n"):
                del self._unfinished[record.stream]
                self._begins.append(begin)
                self._finished += 1

    def begin(self) -> Place:
        """The place of the last lines, if the records are all that are stored."""
        lines = self._finished + len(self._unfinished)
        return Place(skip=max(0, lines - self._tail))

    def place(self) -> Place | None:
        """The place of the last lines. None if it may be before the records."""
        begins = [*self._begins, *self._unfinished.values()]
        earlier, begin = begins[: -self._tail], min(begins[-self._tail :])
        if not earlier or self._first >= begin:
            return None
        return Place.since(begin, skip=sum(time >= begin for time in earlier))
