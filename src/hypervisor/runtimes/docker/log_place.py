"""A place in the output of a container, by the times of its records; no I/O.

An engine numbers no records and deletes the oldest ones. The records of one stream have ascending times, so
the last record of each stream that was returned, by its time and its number among those of this time, is an
exact place: also after a rotation, and in the archive.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, NamedTuple

from hypervisor.runtimes.docker.log_records import STDERR, STDOUT, Record, seconds

MARGIN_SECONDS: Final = 1
"""How much earlier than the place a request begins: records of two streams are stored out of order."""

_TIME: Final = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}(?:\.[0-9]{1,9})?(?:Z|[+-][0-9]{2}:[0-9]{2})"
_TEXT: Final = re.compile(rf"r([0-2])\.([0-9]{{1,15}})((?:,[12]~[0-9]{{1,15}}~{_TIME}){{0,2}})")


class Mark(NamedTuple):
    """The first `number` records of one stream with this time, and all before it."""

    time: bytes
    number: int


@dataclass(frozen=True, slots=True)
class Place:
    """`marks` are the records before the place, by stream; a stream without one was not seen.

    `open` is the stream whose unfinished line was returned in part, 0 for none. `skip` is the number of lines
    after the marks that come before the place.
    """

    marks: Mapping[int, Mark] = field(default_factory=dict)
    open: int = 0
    skip: int = 0

    def __str__(self) -> str:
        marks = (
            f",{stream}~{mark.number}~{mark.time.decode()}" for stream, mark in sorted(self.marks.items())
        )
        return f"r{self.open}.{self.skip}{''.join(marks)}"

    @classmethod
    def parse(cls, text: str) -> Place | None:
        """The place with this text; None for other text."""
        if (match := _TEXT.fullmatch(text)) is None:
            return None
        marks = {}
        for part in filter(None, match[3].split(",")):
            stream, count, time = part.split("~")
            try:
                datetime.fromisoformat(time)
            except ValueError:
                return None
            marks[int(stream)] = Mark(time.encode(), int(count))
        return cls(marks, int(match[1]), int(match[2]))

    @classmethod
    def since(cls, time: bytes, skip: int = 0) -> Place:
        """Before the records from a time on, and `skip` lines later."""
        return cls({STDOUT: Mark(time, 0), STDERR: Mark(time, 0)}, skip=skip)

    def after(self, records: Iterable[Record]) -> Place:
        """The place after the next records."""
        marks = dict(self.marks)
        for record in records:
            if mark := advanced(marks.get(record.stream), record):
                marks[record.stream] = mark
        return Place(marks, self.open, self.skip)

    @property
    def window(self) -> Mapping[str, str]:
        """The parameters of a request for all records after the place, and some before it."""
        times = [mark.time for mark in self.marks.values()]
        return {"since": seconds(min(times), MARGIN_SECONDS)} if times else {"tail": "all"}

    @property
    def unfinished(self) -> dict[int, bytes]:
        """The time of the line that was returned in part, by stream."""
        return {self.open: self.marks[self.open].time} if self.open in self.marks else {}


class NewRecords:
    """Selects the records of stdout and stderr after a place.

    After the first one of a stream, all of this stream are new.
    """

    def __init__(self, place: Place) -> None:
        self._marks = dict(place.marks)

    def of(self, records: Iterable[Record]) -> Iterator[Record]:
        for record in records:
            mark = self._marks.get(record.stream)
            if mark is None:
                if record.stream in (STDOUT, STDERR):
                    yield record
            elif record.time > mark.time or (record.time == mark.time and not mark.number):
                del self._marks[record.stream]
                yield record
            elif record.time == mark.time:
                self._marks[record.stream] = Mark(mark.time, mark.number - 1)


def advanced(mark: Mark | None, record: Record) -> Mark | None:
    """The mark after this record of its stream."""
    if record.restored:
        return mark
    if mark is not None and mark.time == record.time:
        return Mark(mark.time, mark.number + 1)
    return Mark(record.time, 1)
