"""Workloads: jobs in order of arrival, read repeatedly and not held in memory.

`open_workload` reads the file once: it checks every row and counts the arrivals. For a file that is not
sorted it stores 24 bytes per row: the arrival, the offset and the line.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from hypervisor.scheduling.snapshots.snapshot import Int64
from hypervisor.simulation.errors import WorkloadError
from hypervisor.simulation.jobs import Job
from hypervisor.simulation.readers.csv_file import CsvFile, Row
from hypervisor.simulation.readers.csv_format import CsvFormat
from hypervisor.simulation.readers.openb import OpenbFormat
from hypervisor.simulation.readers.philly import PhillyFormat

FormatName = Literal["auto", "csv", "openb", "philly"]


class Format(Protocol):
    """A file format. All methods except `recognises` raise WorkloadError."""

    @property
    def name(self) -> str: ...

    @property
    def required(self) -> tuple[str, ...]:
        """The columns that every file of this format has."""
        ...

    def recognises(self, file: CsvFile) -> bool:
        """Whether the header belongs to this format."""
        ...

    def check(self, file: CsvFile) -> None:
        """Raise WorkloadError for an invalid header."""
        ...

    def arrival(self, row: Row) -> float:
        """The arrival in seconds, from any origin."""
        ...

    def job(self, row: Row, number: int, arrival: float) -> Job:
        """The row as a job with this id and arrival."""
        ...


FORMATS: tuple[Format, ...] = (CsvFormat(), OpenbFormat(), PhillyFormat())


class Workload(Protocol):
    """A source of jobs. `span` is the time between the first and the last arrival, in seconds."""

    @property
    def name(self) -> str: ...

    @property
    def count(self) -> int: ...

    @property
    def span(self) -> float: ...

    @property
    def origin(self) -> float | None:
        """The Unix time of the first arrival in seconds; None when it is unknown."""
        ...

    def jobs(self) -> Iterator[Job]:
        """The jobs in order of arrival. Every call starts at the first one."""
        ...


@dataclass(frozen=True, slots=True)
class FileWorkload:
    """The jobs of a file; see `open_workload`. `order` has offsets and lines of a file that is not sorted."""

    file: CsvFile
    format: Format
    count: int
    first: float
    last: float
    order: tuple[Int64, Int64] | None

    @property
    def name(self) -> str:
        return self.file.path.name

    @property
    def span(self) -> float:
        return self.last - self.first

    @property
    def origin(self) -> float | None:
        return self.first if isinstance(self.format, PhillyFormat) else None

    def jobs(self) -> Iterator[Job]:
        for number, row in enumerate(self._rows(), start=1):
            if number > self.count:
                return
            yield self.format.job(row, number, self.format.arrival(row) - self.first)

    def _rows(self) -> Iterator[Row]:
        if self.order is None:
            yield from self.file.rows()
            return
        with self.file.path.open("rb") as opened:
            for offset, line in zip(*self.order, strict=True):
                yield self.file.row_at(opened, int(offset), int(line))


@dataclass(frozen=True, slots=True)
class ListedWorkload:
    """Jobs in memory, sorted by arrival and numbered from 1."""

    name: str
    listed: tuple[Job, ...]
    origin: float | None = None

    @property
    def count(self) -> int:
        return len(self.listed)

    @property
    def span(self) -> float:
        return self.listed[-1].arrival - self.listed[0].arrival if self.listed else 0.0

    def jobs(self) -> Iterator[Job]:
        return iter(self.listed)


def open_workload(path: Path, format_name: FormatName = "auto", limit: int | None = None) -> FileWorkload:
    """Check a file and open it as a workload; `limit` is the number of arrivals to use.

    Raises WorkloadError with file and line for an invalid file.
    """
    file = CsvFile(path)
    chosen = _choose(file, format_name)
    chosen.check(file)
    arrivals, offsets, lines = _scan(file, chosen)
    if not len(arrivals):
        raise WorkloadError(f"{path}: the file has no jobs")
    is_sorted = bool((arrivals[1:] >= arrivals[:-1]).all())
    order = None if is_sorted else np.argsort(arrivals, kind="stable")
    count = len(arrivals) if limit is None else min(limit, len(arrivals))
    rows = None if order is None else (offsets[order][:count], lines[order][:count])
    sorted_arrivals = arrivals if order is None else arrivals[order]
    first, last = float(sorted_arrivals[0]), float(sorted_arrivals[count - 1])
    return FileWorkload(file, chosen, count, first, last, rows)


def _choose(file: CsvFile, name: FormatName) -> Format:
    matches = [
        candidate
        for candidate in FORMATS
        if (candidate.recognises(file) if name == "auto" else candidate.name == name)
    ]
    if not matches:
        required = "; ".join(f"{known.name} has {', '.join(known.required)}" for known in FORMATS)
        raise WorkloadError(
            f"{file.path}:1: the columns match no known format: {', '.join(file.columns)}. "
            f"Required columns: {required}"
        )
    return matches[0]


def _scan(file: CsvFile, chosen: Format) -> tuple[np.ndarray, Int64, Int64]:
    """The arrival, offset and line number of every row. Every row is parsed once, as a check."""
    rows = np.fromiter(_checked_rows(file, chosen), np.dtype("f8,i8,i8"))
    return rows["f0"], rows["f1"], rows["f2"]


def _checked_rows(file: CsvFile, chosen: Format) -> Iterable[tuple[float, int, int]]:
    for row in file.rows():
        arrival = chosen.arrival(row)
        chosen.job(row, 1, arrival)
        yield arrival, row.offset, row.line
