"""A compressed file with the records of one log, oldest first.

Each record is a frame as the engine sends it. A first frame of stream 0 says whether the log lacks line ends.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from hypervisor.runtimes.docker.log_records import Record, frame, take_records

_HEADER: Final = 0
_LACKS_LINE_ENDS: Final = b"lacks line ends"
_CHUNK: Final = 256 * 1024
# Logs compress well at the lowest level, and the last step before a removal stays short.
_LEVEL: Final = 1


class RecordWriter:
    """Creates the file. `output_bytes` is the size of the output in the records so far."""

    def __init__(self, path: Path, *, lacks_line_ends: bool) -> None:
        self._file = gzip.GzipFile(path, "wb", compresslevel=_LEVEL)
        self.output_bytes = 0
        self.write([Record(_HEADER, b"", _LACKS_LINE_ENDS if lacks_line_ends else b"")])
        self.output_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def write(self, records: Iterable[Record]) -> None:
        records = list(records)
        self.output_bytes += sum(len(record.data) for record in records)
        self._file.write(b"".join(map(frame, records)))


class RecordReader:
    """Reads the file, after its first `skip` records."""

    def __init__(self, path: Path, skip: int = 0) -> None:
        self._file = gzip.GzipFile(path, "rb")
        self._buffer = bytearray()
        self._skip = skip

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def read(self) -> list[Record] | None:
        """The next records, maybe none yet; None at the end."""
        data = self._file.read(_CHUNK)
        if not data:
            return None
        self._buffer += data
        records = [record for record in take_records(self._buffer) if record.stream != _HEADER]
        rest = records[self._skip :]
        self._skip -= len(records) - len(rest)
        return rest


def count(path: Path) -> int:
    """The number of records."""
    with RecordReader(path) as file:
        return sum(map(len, iter(file.read, None)))


def lacks_line_ends(path: Path) -> bool:
    with gzip.open(path, "rb") as file:
        header = take_records(bytearray(file.read(100)))
    return header[0].data == _LACKS_LINE_ENDS


def drop_beginning(path: Path, excess: int) -> None:
    """Drop at least `excess` bytes of output, to the end of a line if there is one."""
    skip = _records_to_drop(path, excess)
    shorter = path.with_suffix(".shorter")
    try:
        with (
            RecordReader(path, skip) as source,
            RecordWriter(shorter, lacks_line_ends=lacks_line_ends(path)) as target,
        ):
            for records in iter(source.read, None):
                target.write(records)
        shorter.replace(path)
    finally:
        shorter.unlink(missing_ok=True)


def _records_to_drop(path: Path, excess: int) -> int:
    enough = dropped = 0
    with RecordReader(path) as file:
        for record in chain.from_iterable(iter(file.read, None)):
            dropped += 1
            excess -= len(record.data)
            if excess <= 0:
                enough = enough or dropped
                if record.data.endswith(b"\n"):
                    return dropped
    return enough
