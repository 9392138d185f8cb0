"""The files with the output of one instance: read as one stream of bytes, and bounded on disk.

The supervisor's copier writes `log-1`, `log-2`, ... and deletes the oldest, also while no server runs. A file
is complete, and never changes again, as soon as the next one exists.

An instance that an earlier version started writes to `log` itself. The server bounds that file, see
`bound_legacy_log`.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

from hypervisor.runtimes.log_tail import tail_position
from hypervisor.runtimes.process import owned_files
from hypervisor.runtimes.process.instance_dir import LOG

CHUNK = 256 * 1024
_POSITION = re.compile(r"p(-?[0-9]{1,18})\.([0-9]{1,18})")
T = TypeVar("T")
_NUMBERED = re.compile(rf"{LOG}([-.])([0-9]{{1,18}})")


@dataclass(frozen=True, slots=True)
class LogLimits:
    """The most bytes of a file, and the number of files (at least 2).

    Their product bounds the output of one instance on disk.
    """

    max_bytes: int = 10_000_000
    files: int = 3


class Position(NamedTuple):
    """A place in the output. Positions order as the output does."""

    file: int
    offset: int

    def __str__(self) -> str:
        return f"p{self.file}.{self.offset}"

    @classmethod
    def parse(cls, text: str) -> Position | None:
        """The position with this text; None for other text."""
        match = _POSITION.fullmatch(text)
        return cls(int(match[1]), int(match[2])) if match else None


class LogFiles:
    """The log of one instance, in its `directory` or, after its removal, in the `archive`."""

    def __init__(self, directory: Path, archive: Path) -> None:
        self._directory = directory
        self._archive = archive

    def bounds(self) -> tuple[Position, Position]:
        """The positions of the oldest byte on disk and of the end."""
        return self._with_files(_bounds)

    def read(self, position: Position, limit: int) -> tuple[bytes, Position]:
        """Return up to `limit` bytes from `position` or the oldest byte, and the position after them."""
        return self._with_files(lambda files: _read(files, position, limit))

    def tail(self, lines: int) -> Position:
        """The position where the last `lines` lines begin."""
        return self._with_files(lambda files: _tail(files, lines))

    def is_legacy_too_large(self, limits: LogLimits) -> bool:
        """Whether `bound_legacy_log` makes room."""
        # Early enough that the output until the next check still fits.
        return _size(self._directory / LOG) > limits.max_bytes * 3 // 4

    def bound_legacy_log(self, limits: LogLimits) -> None:
        """Move the content of `log` to a new file, and delete the oldest files. Raises OSError.

        The workload keeps `log` open, so it is copied and truncated. Output between the two, a few
        microseconds, can be lost.
        """
        legacy, files = self._directory / LOG, self._files()
        draft = self._directory / ".log.copy"
        with legacy.open("r+b") as source, draft.open("wb") as target:
            position = max(0, _size(legacy) - (limits.files - 1) * limits.max_bytes)
            while sent := os.sendfile(target.fileno(), source.fileno(), position, CHUNK):
                position += sent
            draft.replace(self._directory / f"{LOG}-{max(files)}")
            source.truncate(0)
        for number in sorted(files)[: -limits.files + 1]:
            files[number].unlink(missing_ok=True)

    def _with_files(self, action: Callable[[dict[int, Path]], T]) -> T:
        """Run an action on the files, again if one of them is deleted or moved meanwhile."""
        while True:
            try:
                return action(_regular(self._files()))
            except FileNotFoundError:
                continue

    def _files(self) -> dict[int, Path]:
        """The files by number, in the order of the output."""
        for folder in (self._directory, self._archive):
            with contextlib.suppress(FileNotFoundError):
                return _by_number(list(folder.iterdir()))
        return {}


def _by_number(paths: Iterable[Path]) -> dict[int, Path]:
    files, legacy = {}, None
    for path in paths:
        if match := _NUMBERED.fullmatch(path.name):
            # log.1, log.2, ... of an earlier version are older than all others, the highest first.
            files[int(match[2]) if match[1] == "-" else -int(match[2])] = path
        elif path.name == LOG:
            legacy = path
    if legacy is not None:
        files[max([0, *files]) + 1] = legacy
    return dict(sorted(files.items()))


def _regular(files: Mapping[int, Path]) -> dict[int, Path]:
    """Without what a workload put in the place of a file. Raises FileNotFoundError."""
    return {number: path for number, path in files.items() if stat.S_ISREG(path.lstat().st_mode)}


def _bounds(files: Mapping[int, Path]) -> tuple[Position, Position]:
    if not files:
        return Position(0, 0), Position(0, 0)
    last = max(files)
    return Position(min(files), 0), Position(last, files[last].stat().st_size)


def _read(files: Mapping[int, Path], position: Position, limit: int) -> tuple[bytes, Position]:
    # A file that was complete when the files were listed is complete when it is read to its end.
    for number, path in files.items():
        if number >= position.file:
            position = max(position, Position(number, 0))
            if data := _read_at(path, position.offset, limit):
                return data, Position(number, position.offset + len(data))
    return b"", position


def _tail(files: Mapping[int, Path], lines: int) -> Position:
    end, spans = 0, []
    for number, path in files.items():
        begin, end = end, end + path.stat().st_size
        spans.append((begin, end, number, path))

    def read(start: int, size: int) -> bytes:
        stop = start + size
        parts = ((max(start, begin), min(stop, end), begin, path) for begin, end, _, path in spans)
        return b"".join(
            _read_at(path, low - begin, high - low) for low, high, begin, path in parts if low < high
        )

    start = tail_position(read, 0, end, lines)
    places = (Position(number, start - begin) for begin, _, number, _ in spans if begin <= start)
    return max(places, default=Position(0, 0))


def _read_at(path: Path, offset: int, limit: int) -> bytes:
    """Up to `limit` bytes of a file. Raises FileNotFoundError."""
    with owned_files.open_regular(path) as file:
        file.seek(offset)
        return file.read(limit)


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size if path.is_file() else 0
    except OSError:
        return 0
