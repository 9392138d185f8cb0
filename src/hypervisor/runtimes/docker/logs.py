"""Log lines: the engine's multiplexed stream taken apart, and what is kept when a container is removed.

An engine keeps a container's log only as long as the container; `LogArchive` saves its end before that.
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
# Lines that are read to fill an archive; more would only be read to be thrown away.
_ARCHIVED_LINES: Final = 20_000


class LineSplitter:
    """Bytes of one stream in, whole lines out; broken UTF-8 becomes U+FFFD, endless lines are cut."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[str]:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            yield _text(line)
        if len(self._rest) >= _LONGEST_LINE:
            yield from self.end()

    def end(self) -> Iterator[str]:
        """What is left without a newline."""
        rest, self._rest = self._rest, b""
        if rest:
            yield _text(rest)


async def read_lines(
    engine: DockerClient, name: str, *, tail: int | None = None, follow: bool = False
) -> AsyncIterator[str]:
    """The lines of a container's stdout and stderr as the engine has them.

    Raises DockerError (404: no such container), RuntimeUnavailable when the stream breaks off.
    """
    params = {"stdout": "1", "stderr": "1", "follow": str(int(follow)), "tail": _tail(tail)}
    idle = None if follow else _IDLE_SECONDS
    streams = {1: LineSplitter(), 2: LineSplitter()}
    async with engine.stream(f"containers/{name}/logs", params, idle_seconds=idle) as body:
        async for stream, data in _frames(body):
            for line in streams.setdefault(stream, LineSplitter()).feed(data):
                yield line
        for splitter in streams.values():
            for line in splitter.end():
                yield line


async def last_lines(engine: DockerClient, name: str, count: int) -> list[str]:
    """The last lines, or none where they cannot be had: for explaining, never for deciding."""
    lines: list[str] = []
    with suppress(DockerError, RuntimeUnavailable):
        async for line in read_lines(engine, name, tail=count):
            lines.append(line)
    return lines


class LogArchive:
    """One file an instance in a folder, the last MiB of its log; does nothing without a folder."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    @property
    def keeps(self) -> bool:
        return self._folder is not None

    async def save(self, engine: DockerClient, name: str) -> None:
        """Copy the end of the container's log. Raises OSError, DockerError, RuntimeUnavailable."""
        if self._folder is None or not is_container_name(name):
            return
        kept: deque[bytes] = deque()
        size = 0
        async for line in read_lines(engine, name, tail=_ARCHIVED_LINES):
            kept.append(line.encode() + b"\n")
            size += len(kept[-1])
            while size > ARCHIVED_BYTES:
                size -= len(kept.popleft())
        await asyncio.to_thread(_write, self._folder, name, b"".join(kept))

    async def lines(self, name: str, tail: int | None) -> list[str]:
        """The saved lines, oldest first; none where nothing is saved."""
        if self._folder is None or not is_container_name(name):
            return []
        saved = await asyncio.to_thread(_read, _file(self._folder, name))
        lines = [_text(line) for line in saved.split(b"\n")[:-1]]
        return lines if tail is None else lines[len(lines) - min(tail, len(lines)) :]

    async def purge(self, name: str) -> None:
        if self._folder is not None and is_container_name(name):
            await asyncio.to_thread(_file(self._folder, name).unlink, missing_ok=True)


async def _frames(body: aiohttp.StreamReader) -> AsyncIterator[tuple[int, bytes]]:
    """(1 for stdout or 2 for stderr, bytes) until the stream ends, also where it ends within a frame."""
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


def _file(folder: Path, name: str) -> Path:
    return folder / f"{name}.log"


def _write(folder: Path, name: str, content: bytes) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / f"{name}.log.tmp"
    unfinished.write_bytes(content)
    unfinished.replace(_file(folder, name))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
