"""Reads the log of a container from the engine.

The engine keeps stdout and stderr as records. A line of more than 16 KiB is several records, with the time of
the first one. The engine's `tail` counts records, so the beginning of the last lines is found by its time.
"""

from __future__ import annotations

import re
import struct
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, suppress
from datetime import datetime
from typing import Final

from aiodocker.exceptions import DockerError

from hypervisor.kernel.log_text import split_lines
from hypervisor.runtimes.docker.client import DockerClient
from hypervisor.runtimes.docker.line_merger import LineMerger
from hypervisor.runtimes.protocol import RuntimeUnavailable

_FRAME_HEADER: Final = struct.Struct(">BxxxL")
_CHUNK: Final = 64 * 1024
_IDLE_SECONDS: Final = 60.0
# How many times more records each search for the beginning of the last lines reads.
_MORE: Final = 16
_FRACTION: Final = re.compile(r"\.\d+")

Record = tuple[int, bytes]
"""The stream (1: stdout, 2: stderr) and the bytes."""


async def read_output(
    client: DockerClient, name: str, *, tail: int | None = None, follow: bool = False
) -> AsyncIterator[bytes]:
    """The output of a container, stdout and stderr merged line by line.

    Raises DockerError (404: no such container), RuntimeUnavailable when the stream breaks.
    """
    window = await _window(client, name, tail)
    merger = LineMerger()
    async with aclosing(_records(client, name, window, follow=follow)) as batches:
        async for records in batches:
            if merged := b"".join(merger.feed(stream, data) for stream, data in records):
                yield merged
    if merged := merger.end():
        yield merged


async def last_lines(client: DockerClient, name: str, count: int) -> list[str]:
    """The last lines, or none after an error. For messages to people, never for decisions."""
    output = b""
    with suppress(DockerError, RuntimeUnavailable):
        async for records in _records(client, name, {"tail": str(count)}):
            output += b"".join(data for _, data in records)
    return split_lines(output.decode(errors="replace"))


async def _window(client: DockerClient, name: str, tail: int | None) -> dict[str, str]:
    """The parameters that select the last `tail` lines and all output after this call."""
    if not tail:
        return {"tail": "all" if tail is None else "0"}
    limit = tail + 1
    while True:
        counter = _LineCounter(tail)
        async for records in _records(client, name, {"tail": str(limit), "timestamps": "1"}):
            for stream, data in records:
                counter.feed(stream, data)
        if counter.lines > tail:
            return {"since": _seconds(counter.begin)}
        if counter.records < limit:
            return {"tail": "all"}
        limit *= _MORE


class _LineCounter:
    """Counts the lines in records with timestamps, and finds the time at which the last lines begin."""

    def __init__(self, tail: int) -> None:
        self.records = 0
        self._finished = 0
        self._begins: deque[bytes] = deque(maxlen=tail)
        self._unfinished: dict[int, bytes] = {}

    @property
    def lines(self) -> int:
        return self._finished + len(self._unfinished)

    @property
    def begin(self) -> bytes:
        """The earliest time of the last lines."""
        last = [*self._begins, *self._unfinished.values()][-(self._begins.maxlen or 0) :]
        return min(last)

    def feed(self, stream: int, record: bytes) -> None:
        self.records += 1
        begin = self._unfinished.setdefault(stream, record.partition(b" ")[0])
        if record.endswith(b"\n"):
            del self._unfinished[stream]
            self._begins.append(begin)
            self._finished += 1


async def _records(
    client: DockerClient, name: str, window: Mapping[str, str], *, follow: bool = False
) -> AsyncGenerator[list[Record], None]:
    """The records of the container's log in batches. An incomplete last record is dropped."""
    params = {"stdout": "1", "stderr": "1", "follow": str(int(follow)), **window}
    idle = None if follow else _IDLE_SECONDS
    async with client.stream(f"containers/{name}/logs", params, idle_seconds=idle) as body:
        buffer = bytearray()
        async for chunk in body.iter_chunked(_CHUNK):
            buffer += chunk
            yield _take_records(buffer)


def _take_records(buffer: bytearray) -> list[Record]:
    """Remove the complete records from the front of the buffer."""
    records, position = [], 0
    while len(buffer) >= (begin := position + _FRAME_HEADER.size):
        stream, length = _FRAME_HEADER.unpack_from(buffer, position)
        if len(buffer) < begin + length:
            break
        position = begin + length
        records.append((stream, bytes(buffer[begin:position])))
    del buffer[:position]
    return records


def _seconds(timestamp: bytes) -> str:
    """An RFC 3339 time as seconds since the epoch, with the same fraction."""
    text = timestamp.decode()
    fraction = _FRACTION.search(text)
    return f"{int(datetime.fromisoformat(text).timestamp())}{fraction.group() if fraction else ''}"
