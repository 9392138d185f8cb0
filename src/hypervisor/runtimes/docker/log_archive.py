"""Archives the log of a container when the container is removed: an engine deletes it with the container."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Final

from hypervisor.runtimes.docker.client import DockerClient
from hypervisor.runtimes.docker.config import is_container_name
from hypervisor.runtimes.docker.logs import read_output
from hypervisor.runtimes.log_tail import tail_position

ARCHIVED_BYTES: Final = 30_000_000
"""As much as the engine keeps by its configuration, see `config`."""

_CHUNK: Final = 256 * 1024


class LogArchive:
    """One file for each instance with the end of its log. Without a directory it saves nothing."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory

    async def save(self, client: DockerClient, name: str) -> None:
        """Save the end of the container's log. Raises OSError, DockerError, RuntimeUnavailable."""
        if self._directory is None or not is_container_name(name):
            return
        await asyncio.to_thread(self._directory.mkdir, parents=True, exist_ok=True)
        draft = self._directory / f"{name}.log.tmp"
        try:
            await self._copy(client, name, draft)
            draft.replace(_file(self._directory, name))
        finally:
            draft.unlink(missing_ok=True)

    async def _copy(self, client: DockerClient, name: str, draft: Path) -> None:
        with draft.open("wb") as file:
            async for data in read_output(client, name):
                await asyncio.to_thread(file.write, data)
        await asyncio.to_thread(_drop_beginning, draft)

    async def output(self, name: str, tail: int | None) -> AsyncIterator[bytes]:
        """The saved output, oldest first, in chunks. None is saved for an unknown name."""
        if self._directory is None or not is_container_name(name):
            return
        path = _file(self._directory, name)
        position = await asyncio.to_thread(_tail_position, path, tail)
        while data := await asyncio.to_thread(_read, path, position, _CHUNK):
            yield data
            position += len(data)

    async def purge(self, name: str) -> None:
        """Delete the saved log. An unknown name is fine."""
        if self._directory is not None and is_container_name(name):
            await asyncio.to_thread(_file(self._directory, name).unlink, missing_ok=True)


def _drop_beginning(path: Path) -> None:
    """Keep the last ARCHIVED_BYTES of the file, from the beginning of a line if there is one."""
    excess = path.stat().st_size - ARCHIVED_BYTES
    if excess > 0:
        kept = _read(path, excess, ARCHIVED_BYTES)
        path.write_bytes(kept[kept.find(b"\n") + 1 :] or kept)


def _tail_position(path: Path, tail: int | None) -> int:
    if tail is None or not path.exists():
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
    return directory / f"{name}.log"
