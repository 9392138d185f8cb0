"""The output of one instance: rotated, so that it is bounded on disk, and read as one stream of bytes.

The workload keeps the file open, so a rotation copies the file and truncates it (the supervisor opened it for
appending). Output between the copy and the truncation, a few microseconds, can be lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from hypervisor.runtimes.log_tail import tail_position
from hypervisor.runtimes.process.instance_dir import LOG

CHUNK = 256 * 1024
FOLLOW_INTERVAL = 0.2


@dataclass(frozen=True, slots=True)
class LogLimits:
    """Average bytes of a file, and the number of files (with the current one, at least 2).

    Their product bounds the output of one instance on disk.
    """

    max_bytes: int = 10_000_000
    files: int = 3


class RotatingLog:
    """The files `log`, `log.1`, ... in `directory`, newest first.

    The rotated files hold at most `max_bytes` each on average; `rotate` truncates the current one. A position
    counts all bytes since this object was created, so a reader keeps its position across rotations. Safe to
    use from several threads.
    """

    def __init__(self, directory: Path, limits: LogLimits) -> None:
        self._directory = directory
        self._max_bytes = limits.max_bytes
        self._files = limits.files
        self._rotated_out = 0
        self._lock = threading.Lock()

    def is_too_large(self) -> bool:
        """Whether the next `rotate` makes room."""
        # Early enough that the output until the next check still fits.
        return _size(self._path(0)) > self._max_bytes * 3 // 4

    def rotate(self) -> None:
        """Rotate if the current file is too large. The next call tries again after an error (a full disk)."""
        with self._lock, contextlib.suppress(OSError):
            if self.is_too_large():
                self._rotate()

    def move(self, directory: Path) -> None:
        """Use another directory: the files were moved."""
        with self._lock:
            self._directory = directory

    def bounds(self) -> tuple[int, int]:
        """The positions of the oldest byte on disk and of the end."""
        with self._lock:
            return self._segments()[0][0], self._rotated_out + _size(self._path(0))

    def read(self, position: int, limit: int) -> tuple[bytes, int]:
        """Return up to `limit` bytes from `position` or the oldest byte, and the position after them."""
        with self._lock:
            segments = self._segments()
            position = max(position, segments[0][0])
            begin, path = next(one for one in reversed(segments) if one[0] <= position)
            data = _read_at(path, position - begin, limit)
            return data, position + len(data)

    def tail(self, lines: int) -> int:
        """The position where the last `lines` lines begin."""
        start, end = self.bounds()
        return tail_position(self._read_block, start, end, lines)

    def _read_block(self, position: int, size: int) -> bytes:
        parts = []
        while size > 0:
            data, after = self.read(position, size)
            if not data:
                break
            parts.append(data)
            size -= after - position
            position = after
        return b"".join(parts)

    def _segments(self) -> list[tuple[int, Path]]:
        """The files and the position where each begins, oldest first."""
        begin, segments = self._rotated_out, [(self._rotated_out, self._path(0))]
        for index in range(1, self._files):
            if size := _size(self._path(index)):
                begin -= size
                segments.append((begin, self._path(index)))
        return segments[::-1]

    def _rotate(self) -> None:
        """Copy, then truncate. The remaining files are always the newest output, without a gap."""
        room = (self._files - 1) * self._max_bytes
        current, draft = self._path(0), self._directory / ".log.copy"
        with current.open("r+b") as source, draft.open("wb") as target:
            position = begin = max(0, _size(current) - room)
            while sent := os.sendfile(target.fileno(), source.fileno(), position, CHUNK):
                position += sent
            self._shift(room - (position - begin))
            draft.replace(self._path(1))
            source.truncate(0)
        self._rotated_out += position

    def _shift(self, room: int) -> None:
        """Increment the number of each rotated file. Delete the oldest that do not fit into `room` bytes."""
        sizes = [_size(self._path(index)) for index in range(1, self._files)]
        retained = 0
        while retained < len(sizes) - 1 and sum(sizes[: retained + 1]) <= room:
            retained += 1
        for index in range(retained + 1, self._files):
            self._path(index).unlink(missing_ok=True)
        for index in range(retained, 0, -1):
            if sizes[index - 1]:
                self._path(index).replace(self._path(index + 1))

    def _path(self, index: int) -> Path:
        return self._directory / (f"{LOG}.{index}" if index else LOG)


async def read_output(
    log: RotatingLog, *, tail: int | None, follow: bool, finished: asyncio.Event
) -> AsyncIterator[bytes]:
    """The bytes of a log, oldest first.

    With `follow` the iterator ends when `finished` is set and all bytes were read.
    """
    begin, end = await asyncio.to_thread(log.bounds)
    position = begin if tail is None else await asyncio.to_thread(log.tail, tail)
    while follow or position < end:
        was_finished = finished.is_set()
        data, position = await asyncio.to_thread(log.read, position, CHUNK)
        if data:
            yield data
        elif was_finished or not follow:
            return
        else:
            await _wait(finished, FOLLOW_INTERVAL)


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return


def _read_at(path: Path, offset: int, limit: int) -> bytes:
    """Up to `limit` bytes of a file; empty if there is no such file."""
    try:
        with path.open("rb", buffering=0) as file:
            file.seek(offset)
            return file.read(limit)
    except FileNotFoundError:
        return b""


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
