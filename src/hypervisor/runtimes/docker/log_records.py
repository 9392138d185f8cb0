"""The records of a log, as an engine sends them: bytes of stdout or stderr with a time; no I/O.

A line of more than 16 KiB is several records, with the time of the first one.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable
from datetime import datetime
from typing import Final, NamedTuple

STDOUT, STDERR, ENGINE_ERROR = 1, 2, 3

_FRAME_HEADER: Final = struct.Struct(">BxxxL")
_FRACTION: Final = re.compile(r"\.\d+")


class Record(NamedTuple):
    """Bytes of a stream. The time is an RFC 3339 text. `restored`: the engine has no such record."""

    stream: int
    time: bytes
    data: bytes
    restored: bool = False


def take_records(buffer: bytearray) -> list[Record]:
    """Remove the complete records from the front of the buffer."""
    records, position = [], 0
    while len(buffer) >= (begin := position + _FRAME_HEADER.size):
        stream, length = _FRAME_HEADER.unpack_from(buffer, position)
        if len(buffer) < begin + length:
            break
        position = begin + length
        time, _, data = bytes(buffer[begin:position]).partition(b" ")
        records.append(Record(stream, time, data))
    del buffer[:position]
    return records


def until_repeated(records: Iterable[Record], latest: dict[int, bytes]) -> list[Record]:
    """The records before the first that is older than the one before it in its stream: it is a repeat.

    `latest` has the last time of each stream, and is updated.
    """
    in_order = []
    for record in records:
        if record.time < latest.get(record.stream, b""):
            break
        latest[record.stream] = record.time
        in_order.append(record)
    return in_order


def frame(record: Record) -> bytes:
    """The record as `take_records` reads it."""
    return _FRAME_HEADER.pack(record.stream, len(record.time) + 1 + len(record.data)) + b"%b %b" % record[1:3]


class LineEnds:
    """Restores the end of a line of several records, which the driver `local` of some versions drops.

    All records of a line have the same time, and no other line has it. `unfinished` has the times of the
    lines that have begun, by stream.
    """

    def __init__(self, unfinished: dict[int, bytes]) -> None:
        self._unfinished = unfinished

    def restore(self, records: Iterable[Record]) -> list[Record]:
        restored = []
        for record in records:
            time = self._unfinished.pop(record.stream, record.time)
            if time != record.time:
                restored.append(Record(record.stream, time, b"\n", restored=True))
            if not record.data.endswith(b"\n"):
                self._unfinished[record.stream] = record.time
            restored.append(record)
        return restored


def seconds(timestamp: bytes, earlier: int = 0) -> str:
    """An RFC 3339 time, minus whole seconds, as seconds since the epoch with the same fraction."""
    text = timestamp.decode()
    fraction = _FRACTION.search(text)
    whole = int(datetime.fromisoformat(text).timestamp()) - earlier
    return f"{max(0, whole)}{fraction.group() if fraction else ''}"
