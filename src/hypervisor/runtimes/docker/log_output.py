"""The output of a container from its records: whole lines of both streams, each with its place; no I/O."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from itertools import groupby
from operator import itemgetter

from hypervisor.runtimes.docker.line_merger import LineMerger
from hypervisor.runtimes.docker.log_place import Mark, NewRecords, Place, advanced
from hypervisor.runtimes.docker.log_records import LineEnds, Record
from hypervisor.runtimes.protocol import LogChunk


class Output:
    """Takes the records of one request from a place on. `place` is the one after the returned output."""

    def __init__(self, place: Place, *, lacks_line_ends: bool) -> None:
        """`lacks_line_ends`: see `LineEnds`."""
        self._new = NewRecords(place)
        self._line_ends = LineEnds(place.unfinished) if lacks_line_ends else None
        self._merger = LineMerger(place.open)
        self._read: dict[int, Mark] = dict(place.marks)
        self._returned: dict[int, Mark] = dict(place.marks)
        self._held: dict[int, deque[tuple[int, Mark | None]]] = {}
        self._skip = place.skip

    @property
    def place(self) -> Place:
        return Place(dict(self._returned), self._merger.open, self._skip)

    def feed(self, records: Iterable[Record]) -> LogChunk:
        """Add the next records. Return the output that they complete, maybe none."""
        new = self._new.of(records)
        restored = self._line_ends.restore(new) if self._line_ends else new
        parts = [self._merge(stream, group) for stream, group in groupby(restored, itemgetter(0))]
        return self._chunk(b"".join(parts))

    def end(self) -> LogChunk:
        """The unfinished lines, at the end of the log."""
        return self._chunk(self._merger.end())

    def _merge(self, stream: int, records: Iterable[Record]) -> bytes:
        held, mark = self._held.setdefault(stream, deque()), self._read.get(stream)
        parts = []
        for record in records:
            mark = advanced(mark, record)
            held.append((len(record.data), mark))
            parts.append(record.data)
        if mark is not None:
            self._read[stream] = mark
        return self._merger.feed(stream, b"".join(parts))

    def _chunk(self, merged: bytes) -> LogChunk:
        for stream in self._held:
            self._settle(stream)
        return LogChunk(self._without_skipped(merged), str(self.place))

    def _settle(self, stream: int) -> None:
        """Count the records of the stream that are returned."""
        records, rest = self._held[stream], self._merger.held(stream)
        if not rest and stream in self._read:
            self._returned[stream] = self._read[stream]
            records.clear()
            return
        returned = sum(size for size, _ in records) - rest
        while records and records[0][0] <= returned:
            size, mark = records.popleft()
            returned -= size
            if mark is not None:
                self._returned[stream] = mark

    def _without_skipped(self, merged: bytes) -> bytes:
        while self._skip and b"\n" in merged:
            self._skip, merged = self._skip - 1, merged.partition(b"\n")[2]
        return b"" if self._skip else merged
