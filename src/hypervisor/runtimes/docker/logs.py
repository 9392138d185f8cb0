"""Reads log lines from the engine's multiplexed stream, and archives them when a container is removed.

An engine deletes a log with its container. `LogArchive` saves the end of the log before that.
"""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import aiohttp
from aiodocker.exceptions import DockerError

from hypervisor.runtimes.docker.client import DockerClient
from hypervisor.runtimes.docker.config import is_container_name
from hypervisor.runtimes.protocol import RuntimeUnavailable

ARCHIVED_BYTES: Final = 1024 * 1024

_FRAME_HEADER = struct.Struct(">BxxxL")
_LONGEST_LINE: Final = 1024 * 1024
_IDLE_SECONDS: Final = 60.0
# The most lines that are read for an archive. Older lines would not fit into it.
_ARCHIVED_LINES: Final = 20_000


class LineSplitter:
    """Splits the bytes of one stream into lines. Invalid UTF-8 becomes U+FFFD; very long lines are split."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[str]:
        """The lines that these bytes complete."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            yield _text(line)
        if len(self._rest) >= _LONGEST_LINE:
            yield from self.end()

    def end(self) -> Iterator[str]:
        """The rest without a newline."""
        rest, self._rest = self._rest, b""
        if rest:
            yield _text(rest)


async def read_lines(
    client: DockerClient, name: str, *, tail: int | None = None, follow: bool = False
) -> AsyncIterator[str]:
    """The lines of a container's stdout and stderr.

    Raises DockerError (404: no such container), RuntimeUnavailable when the stream breaks.
    """
    params = {"stdout": "1", "stderr": "1", "follow": str(int(follow)), "tail": _tail(tail)}
    idle = None if follow else _IDLE_SECONDS
    streams = {1: LineSplitter(), 2: LineSplitter()}
    async with client.stream(f"containers/{name}/logs", params, idle_seconds=idle) as body:
        async for stream, data in _frames(body):
            for line in streams.setdefault(stream, LineSplitter()).feed(data):
                yield line
        for splitter in streams.values():
            for line in splitter.end():
                yield line


async def last_lines(client: DockerClient, name: str, count: int) -> list[str]:
    """The last lines, or none after an error. For messages to people, never for decisions."""
    lines: list[str] = []
    with suppress(DockerError, RuntimeUnavailable):
        async for line in read_lines(client, name, tail=count):
            lines.append(line)
    return lines


class LogArchive:
    """One file for each instance with the last MiB of its log. Without a directory it saves nothing."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory

    async def save(self, client: DockerClient, name: str) -> None:
        """Save the end of the container's log. Raises OSError, DockerError, RuntimeUnavailable."""
        if self._directory is None or not is_container_name(name):
            return
        tail_lines: deque[bytes] = deque()
        size = 0
        async for line in read_lines(client, name, tail=_ARCHIVED_LINES):
            tail_lines.append(line.encode() + b"\n")
            size += len(tail_lines[-1])
            while size > ARCHIVED_BYTES:
                size -= len(tail_lines.popleft())
        await asyncio.to_thread(_write, self._directory, name, b"".join(tail_lines))

    async def lines(self, name: str, tail: int | None) -> list[str]:
        """The saved lines, oldest first. None are saved for an unknown name."""
        if self._directory is None or not is_container_name(name):
            return []
        saved = await asyncio.to_thread(_read, _file(self._directory, name))
        lines = [_text(line) for line in saved.split(b"\n")[:-1]]
        return lines if tail is None else lines[len(lines) - min(tail, len(lines)) :]

    async def purge(self, name: str) -> None:
        """Delete the saved log. An unknown name is fine."""
        if self._directory is not None and is_container_name(name):
            await asyncio.to_thread(_file(self._directory, name).unlink, missing_ok=True)


async def _frames(body: aiohttp.StreamReader) -> AsyncIterator[tuple[int, bytes]]:
    """Pairs of stream (1: stdout, 2: stderr) and bytes. An incomplete last frame is dropped."""
    while True:
        try:
            stream, length = _FRAME_HEADER.unpack(await body.readexactly(_FRAME_HEADER.size))
            data = await body.readexactly(length)
        except asyncio.IncompleteReadError:
            return
        yield stream, data


def _tail(tail: int | None) -> str:
    return "all" if tail is None else str(max(0, tail))


def _text(line: bytes) -> str:
    return line.decode("utf-8", errors="replace")


def _file(directory: Path, name: str) -> Path:
    return directory / f"{name}.log"


def _write(directory: Path, name: str, content: bytes) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    unfinished = directory / f"{name}.log.tmp"
    unfinished.write_bytes(content)
    unfinished.replace(_file(directory, name))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
