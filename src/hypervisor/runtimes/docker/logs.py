"""Reads the log of a container from the engine.

The engine keeps stdout and stderr as records. A line of more than 16 KiB is several records, with the time of
the first one. The engine's `tail` counts records, so the beginning of the last lines is found by its time.
"""

from __future__ import annotations

import re
import struct
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from contextlib import aclosing, suppress
from datetime import datetime
from typing import Final, NamedTuple

from aiodocker.exceptions import DockerError

from hypervisor.kernel.log_text import split_lines
from hypervisor.runtimes.docker.client import DockerClient
from hypervisor.runtimes.docker.config import EXACT_LOG_DRIVER
from hypervisor.runtimes.docker.line_merger import LineMerger
from hypervisor.runtimes.protocol import RuntimeUnavailable

_FRAME_HEADER: Final = struct.Struct(">BxxxL")
_CHUNK: Final = 32 * 1024
_IDLE_SECONDS: Final = 60.0
# How many times more records each search for the beginning of the last lines reads.
_MORE: Final = 16
# The most lines that end before, and begin after, a line of the other stream.
_OUT_OF_ORDER: Final = 1000
_FRACTION: Final = re.compile(r"\.\d+")


class Record(NamedTuple):
    """Bytes of stream 1 (stdout) or 2 (stderr). The time is an RFC 3339 text."""

    stream: int
    time: bytes
    data: bytes


async def read_output(
    client: DockerClient, name: str, *, tail: int | None = None, follow: bool = False
) -> AsyncIterator[bytes]:
    """The output of a container, stdout and stderr merged line by line.

    Raises DockerError (404: no such container), RuntimeUnavailable when the stream breaks.
    """
    log = _ContainerLog(client, name, lacks_line_ends=await _has_exact_log(client, name))
    window = await _window(log, tail)
    merger, earlier_lines = LineMerger(), window.earlier_lines
    async with aclosing(log.records(window.parameters, follow=follow)) as batches:
        async for records in batches:
            merged = b"".join(merger.feed(record.stream, record.data) for record in records)
            while earlier_lines and b"\n" in merged:
                earlier_lines, merged = earlier_lines - 1, merged.partition(b"\n")[2]
            if merged and not earlier_lines:
                yield merged
    if merged := merger.end():
        yield merged


async def last_lines(client: DockerClient, name: str, count: int) -> list[str]:
    """The last lines, or none after an error. For messages to people, never for decisions."""
    output = b""
    with suppress(DockerError, RuntimeUnavailable):
        async for records in _ContainerLog(client, name).records({"tail": str(count)}):
            output += b"".join(record.data for record in records)
    return split_lines(output.decode(errors="replace"))


async def _has_exact_log(client: DockerClient, name: str) -> bool:
    details = await client.call(lambda docker: docker.containers.container(name).show())
    return bool(details["HostConfig"]["LogConfig"]["Type"] == EXACT_LOG_DRIVER)


class _Window(NamedTuple):
    """Parameters of a request, and how many of its first lines come before the requested ones."""

    parameters: Mapping[str, str]
    earlier_lines: int = 0


async def _window(log: _ContainerLog, tail: int | None) -> _Window:
    """The window with the last `tail` lines and all output after this call."""
    if not tail:
        return _Window({"tail": "all" if tail is None else "0"})
    limit = tail + 1
    while True:
        times, count = _LineTimes(tail), 0
        async for records in log.records({"tail": str(limit)}):
            times.feed(records)
            count += len(records)
        if count < limit:
            return _Window({"tail": "all"}, max(0, times.lines - tail))
        if window := times.window():
            return window
        limit *= _MORE


class _LineTimes:
    """Collects the times at which lines begin, and finds where the last `tail` lines begin."""

    def __init__(self, tail: int) -> None:
        self._tail = tail
        self._first = b""
        self._finished = 0
        self._begins: deque[bytes] = deque(maxlen=tail + _OUT_OF_ORDER)
        self._unfinished: dict[int, bytes] = {}

    @property
    def lines(self) -> int:
        return self._finished + len(self._unfinished)

    def feed(self, records: Iterable[Record]) -> None:
        for stream, time, data in records:
            self._first = self._first or time
            begin = self._unfinished.setdefault(stream, time)
            if data.endswith(b"\n"):
                del self._unfinished[stream]
                self._begins.append(begin)
                self._finished += 1

    def window(self) -> _Window | None:
        """The window of the last lines. None if it may begin before the records."""
        begins = [*self._begins, *self._unfinished.values()]
        earlier, begin = begins[: -self._tail], min(begins[-self._tail :])
        if not earlier or self._first >= begin:
            return None
        return _Window({"since": _seconds(begin)}, sum(time >= begin for time in earlier))


class _ContainerLog:
    """The log of one container. `lacks_line_ends`: see `_LineEnds`."""

    def __init__(self, client: DockerClient, name: str, *, lacks_line_ends: bool = False) -> None:
        self._client = client
        self._name = name
        self._lacks_line_ends = lacks_line_ends

    async def records(
        self, window: Mapping[str, str], *, follow: bool = False
    ) -> AsyncGenerator[list[Record], None]:
        """The records in batches. An incomplete last record is dropped."""
        params = {"stdout": "1", "stderr": "1", "timestamps": "1", "follow": str(int(follow)), **window}
        idle = None if follow else _IDLE_SECONDS
        line_ends = _LineEnds()
        async with self._client.stream(f"containers/{self._name}/logs", params, idle_seconds=idle) as body:
            buffer = bytearray()
            async for chunk in body.iter_chunked(_CHUNK):
                buffer += chunk
                records = _take_records(buffer)
                yield line_ends.restore(records) if self._lacks_line_ends else records


class _LineEnds:
    """Restores the end of a line of several records, which the driver `local` of some versions drops.

    All records of a line have the same time, and no other line has it.
    """

    def __init__(self) -> None:
        self._unfinished: dict[int, bytes] = {}

    def restore(self, records: Iterable[Record]) -> list[Record]:
        restored = []
        for record in records:
            time = self._unfinished.pop(record.stream, record.time)
            if time != record.time:
                restored.append(Record(record.stream, time, b"\n"))
            if not record.data.endswith(b"\n"):
                self._unfinished[record.stream] = record.time
            restored.append(record)
        return restored


def _take_records(buffer: bytearray) -> list[Record]:
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


def _seconds(timestamp: bytes) -> str:
    """An RFC 3339 time as seconds since the epoch, with the same fraction."""
    text = timestamp.decode()
    fraction = _FRACTION.search(text)
    return f"{int(datetime.fromisoformat(text).timestamp())}{fraction.group() if fraction else ''}"
