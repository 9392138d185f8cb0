"""Reads the log of a container from the engine.

A request with `follow` is used for the newest output only. At a rotation of the log Docker (20.10, driver
`local`) ends it or sends the new file a second time. Docker also ends it before the last records when the
container ends, and leaves out a whole file when the reader is slower than the rotation. A request without
`follow` returns all records that are stored. So each followed log begins, ends and goes on after a pause with
a request without `follow`, from the exact place of the last record.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, suppress
from typing import Final

from aiodocker.exceptions import DockerError

from hypervisor.kernel.log_text import split_lines
from hypervisor.runtimes.docker.client import DockerClient
from hypervisor.runtimes.docker.config import EXACT_LOG_DRIVER
from hypervisor.runtimes.docker.log_output import Output
from hypervisor.runtimes.docker.log_place import NewRecords, Place
from hypervisor.runtimes.docker.log_records import ENGINE_ERROR, Record, take_records, until_repeated
from hypervisor.runtimes.docker.log_window import place_of_tail
from hypervisor.runtimes.protocol import LogChunk, RuntimeUnavailable

_CHUNK: Final = 32 * 1024
_IDLE_SECONDS: Final = 60.0
_FULL_CHUNKS: Final = 8
"""A followed log with this many full chunks in sequence is read too slowly. Fewer fit into the buffers."""
_CHECK_SECONDS: Final = 30.0
"""Silence of a followed log after which a request without `follow` checks that it is complete."""
_PAUSE_SECONDS: Final = 0.2
_READS: Final = 10
"""How often a log is read again from the place where the engine failed."""

_log = logging.getLogger(__name__)


async def read_output(
    client: DockerClient, name: str, begin: Place | int | None, *, follow: bool = False
) -> AsyncIterator[LogChunk]:
    """The output of a container, stdout and stderr merged line by line, as in `Runtime.logs`.

    It begins at a place, with the last `begin` lines, or for None with the oldest stored output. Raises
    DockerError (404: no such container), RuntimeUnavailable when the stream breaks.
    """
    log = ContainerLog(client, name)
    await log.inspect()
    place = begin if isinstance(begin, Place) else await log.place_of_tail(begin)
    yield LogChunk(b"", str(place))
    while True:
        # An engine has stored all output before it reports the end.
        is_complete = not follow or not await log.inspect()
        output = log.output(place)
        async with aclosing(log.stored(place.window)) as batches:
            async for records in batches:
                yield output.feed(records)
        if is_complete:
            yield output.end()
            return
        output = log.output(output.place)
        async with aclosing(log.followed(output.place.window)) as batches:
            async for records in batches:
                yield output.feed(records)
        place = output.place


async def last_lines(client: DockerClient, name: str, count: int) -> list[str]:
    """The last lines, or none after an error. For messages to people, never for decisions."""
    output = b""
    with suppress(DockerError, RuntimeUnavailable):
        async for records in ContainerLog(client, name).stored({"tail": str(count)}):
            output += b"".join(record.data for record in records)
    return split_lines(output.decode(errors="replace"))


class ContainerLog:
    """The log of one container. `lacks_line_ends`: see `LineEnds`."""

    def __init__(self, client: DockerClient, name: str) -> None:
        self._client = client
        self._name = name
        self.lacks_line_ends = False

    async def inspect(self) -> bool:
        """Read the log driver of the container. Returns whether it runs."""
        details = await self._client.call(lambda docker: docker.containers.container(self._name).show())
        self.lacks_line_ends = details["HostConfig"]["LogConfig"]["Type"] == EXACT_LOG_DRIVER
        return bool(details["State"]["Running"])

    async def place_of_tail(self, tail: int | None) -> Place:
        return await place_of_tail(self.stored, tail, lacks_line_ends=self.lacks_line_ends)

    def output(self, place: Place) -> Output:
        return Output(place, lacks_line_ends=self.lacks_line_ends)

    async def stored(self, window: Mapping[str, str]) -> AsyncGenerator[list[Record], None]:
        """The stored records in batches.

        Docker 20.10 sometimes fails to read the older files, and succeeds a moment later.
        """
        place = Place()
        for _ in range(_READS):
            new = NewRecords(place)
            is_complete = True
            async with aclosing(self._batches(place.window if place.marks else window)) as batches:
                async for batch in batches:
                    records = list(new.of(batch))
                    place = place.after(records)
                    yield records
                    is_complete &= all(record.stream != ENGINE_ERROR for record in batch)
            if is_complete:
                return
            await asyncio.sleep(_PAUSE_SECONDS)
        _log.warning("the engine cannot read the whole log of %s", self._name)

    async def _batches(self, window: Mapping[str, str]) -> AsyncGenerator[list[Record], None]:
        async with self._client.stream(self._path, _params(window), idle_seconds=_IDLE_SECONDS) as body:
            buffer = bytearray()
            async for chunk in body.iter_chunked(_CHUNK):
                buffer += chunk
                yield take_records(buffer)

    async def followed(self, window: Mapping[str, str]) -> AsyncGenerator[list[Record], None]:
        """New records in batches, as long as none can be missing between them."""
        async with self._client.stream(self._path, _params(window, follow=True)) as body:
            buffer, full, latest = bytearray(), 0, dict[int, bytes]()
            while full < _FULL_CHUNKS:
                try:
                    async with asyncio.timeout(_CHECK_SECONDS):
                        chunk = await body.read(_CHUNK)
                except TimeoutError:
                    return
                if not chunk:
                    break
                full = full + 1 if len(chunk) == _CHUNK else 0
                buffer += chunk
                records = take_records(buffer)
                in_order = until_repeated(records, latest)
                yield in_order
                if len(in_order) < len(records):
                    break
        if full < _FULL_CHUNKS:
            await asyncio.sleep(_PAUSE_SECONDS)

    @property
    def _path(self) -> str:
        return f"containers/{self._name}/logs"


def _params(window: Mapping[str, str], *, follow: bool = False) -> dict[str, str]:
    return {"stdout": "1", "stderr": "1", "timestamps": "1", "follow": str(int(follow)), **window}
