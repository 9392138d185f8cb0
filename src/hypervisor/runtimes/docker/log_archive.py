"""Archives the log of a container when the container is removed: an engine deletes it with the container."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Final

from hypervisor.runtimes.docker import record_file
from hypervisor.runtimes.docker.client import DockerClient
from hypervisor.runtimes.docker.config import is_container_name
from hypervisor.runtimes.docker.log_output import Output
from hypervisor.runtimes.docker.log_place import Place
from hypervisor.runtimes.docker.log_records import Record
from hypervisor.runtimes.docker.log_window import place_of_tail
from hypervisor.runtimes.docker.logs import ContainerLog
from hypervisor.runtimes.log_tail import tail_position
from hypervisor.runtimes.protocol import LogChunk

ARCHIVED_BYTES: Final = 30_000_000
"""As much output as the engine keeps by its configuration, see `config`."""

_CHUNK: Final = 256 * 1024


class LogArchive:
    """One file for each instance with the end of its log. Without a directory it saves nothing.

    The file has the records of the engine, so that a place in the log is the same place in the file.
    """

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory

    async def save(self, client: DockerClient, name: str) -> None:
        """Save the end of the container's log. Raises OSError, DockerError, RuntimeUnavailable."""
        if self._directory is None or not is_container_name(name):
            return
        await asyncio.to_thread(self._directory.mkdir, parents=True, exist_ok=True)
        path = _file(self._directory, name)
        draft = path.with_suffix(".tmp")
        try:
            await _copy(ContainerLog(client, name), draft)
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)

    async def output(self, name: str, tail: int | None, after: str | None) -> AsyncIterator[LogChunk]:
        """The saved output as in `Runtime.logs`. None is saved for an unknown name."""
        if self._directory is None or not is_container_name(name):
            return
        path, plain = _file(self._directory, name), _plain_file(self._directory, name)
        for file, read in ((path, _output), (plain, _plain_output)):
            if await asyncio.to_thread(file.exists):
                async for chunk in read(file, tail, after):
                    yield chunk
                return

    async def purge(self, name: str) -> None:
        """Delete the saved log. An unknown name is fine."""
        if self._directory is not None and is_container_name(name):
            for path in (_file(self._directory, name), _plain_file(self._directory, name)):
                await asyncio.to_thread(path.unlink, missing_ok=True)


async def _copy(log: ContainerLog, draft: Path) -> None:
    await log.inspect()
    with record_file.RecordWriter(draft, lacks_line_ends=log.lacks_line_ends) as file:
        async with aclosing(log.stored({"tail": "all"})) as batches:
            async for records in batches:
                await asyncio.to_thread(file.write, records)
    if file.output_bytes > ARCHIVED_BYTES:
        await asyncio.to_thread(record_file.drop_beginning, draft, file.output_bytes - ARCHIVED_BYTES)


async def _output(path: Path, tail: int | None, after: str | None) -> AsyncGenerator[LogChunk, None]:
    async def stored(window: Mapping[str, str]) -> AsyncGenerator[list[Record], None]:
        last = window.get("tail", "all")
        skip = 0 if last == "all" else await asyncio.to_thread(record_file.count, path) - int(last)
        with record_file.RecordReader(path, max(0, skip)) as file:
            while (records := await asyncio.to_thread(file.read)) is not None:
                yield records

    lacks_line_ends = await asyncio.to_thread(record_file.lacks_line_ends, path)
    place = Place.parse(after) if after else None
    if place is None:
        place = await place_of_tail(stored, None if after else tail, lacks_line_ends=lacks_line_ends)
    output = Output(place, lacks_line_ends=lacks_line_ends)
    yield LogChunk(b"", str(place))
    async with aclosing(stored({"tail": "all"})) as batches:
        async for records in batches:
            yield output.feed(records)
    yield output.end()


async def _plain_output(path: Path, tail: int | None, after: str | None) -> AsyncGenerator[LogChunk, None]:
    """The output from the file of an earlier version, which has only the bytes."""
    if after is None:
        position = await asyncio.to_thread(_tail_position, path, tail)
    else:
        position = int(after[1:]) if after[:1] == "b" and after[1:].isdecimal() and len(after) < 16 else 0
    yield LogChunk(b"", f"b{position}")
    while data := await asyncio.to_thread(_read, path, position, _CHUNK):
        position += len(data)
        yield LogChunk(data, f"b{position}")


def _tail_position(path: Path, tail: int | None) -> int:
    if tail is None:
        return 0
    return tail_position(partial(_read, path), 0, path.stat().st_size, tail)


def _read(path: Path, position: int, size: int) -> bytes:
    """Up to `size` bytes of the file; empty if there is no such file."""
    try:
        with path.open("rb") as file:
            file.seek(position)
            return file.read(size)
    except FileNotFoundError:
        return b""


def _file(directory: Path, name: str) -> Path:
    return directory / f"{name}.log.gz"


def _plain_file(directory: Path, name: str) -> Path:
    return directory / f"{name}.log"
