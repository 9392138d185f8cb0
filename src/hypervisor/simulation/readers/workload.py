"""A workload: jobs in order of arrival, as often as they are asked for, without holding them.

The file is looked through once before anything else: every row is checked, arrivals are counted, and if they
are not sorted, 24 bytes a row are kept: when it arrives and where it stands.
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
    """How one kind of file is read. All but `recognises` raise WorkloadError."""

    @property
    def name(self) -> str: ...

    def recognises(self, file: CsvFile) -> bool:
        """Whether the header looks like this format."""
        ...

    def check(self, file: CsvFile) -> None:
        """Complain about a header that cannot be read."""
        ...

    def arrival(self, row: Row) -> float:
        """Seconds, from any origin."""
        ...

    def job(self, row: Row, number: int, arrival: float) -> Job:
        """The row as a job with this id and arrival."""
        ...


FORMATS: tuple[Format, ...] = (CsvFormat(), OpenbFormat(), PhillyFormat())


class Workload(Protocol):
    """What the engine reads. `span` is the time between the first and the last arrival, in seconds."""

    @property
    def name(self) -> str: ...

    @property
    def count(self) -> int: ...

    @property
    def span(self) -> float: ...

    @property
    def origin(self) -> float | None:
        """Seconds since the Unix epoch at which time 0 was, if the workload says so."""
        ...

    def jobs(self) -> Iterator[Job]:
        """From the first arrival to the last, anew at each call."""
        ...


@dataclass(frozen=True, slots=True)
class FileWorkload:
    """Jobs of a file; made by `open_workload`."""

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
    """Jobs that are in memory already, sorted by arrival and numbered from 1."""

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
    """Check a file and make its jobs readable; with `limit`, only the first so many arrivals.

    Raises WorkloadError with file and line for anything that cannot be read.
    """
    file = CsvFile(path)
    chosen = _choose(file, format_name)
    chosen.check(file)
    arrivals, offsets, lines = _look_through(file, chosen)
    if not len(arrivals):
        raise WorkloadError(f"{path}: there are no jobs in it")
    is_sorted = bool((arrivals[1:] >= arrivals[:-1]).all())
    order = None if is_sorted else np.argsort(arrivals, kind="stable")
    count = len(arrivals) if limit is None else min(limit, len(arrivals))
    places = None if order is None else (offsets[order][:count], lines[order][:count])
    ranked = arrivals if order is None else arrivals[order]
    return FileWorkload(file, chosen, count, float(ranked[0]), float(ranked[count - 1]), places)


def _choose(file: CsvFile, name: FormatName) -> Format:
    found = [each for each in FORMATS if (each.recognises(file) if name == "auto" else each.name == name)]
    if not found:
        names = ", ".join(each.name for each in FORMATS)
        raise WorkloadError(
            f"{file.path}:1: these columns are of none of the known formats ({names}): "
            f"{', '.join(file.columns)}"
        )
    return found[0]


def _look_through(file: CsvFile, chosen: Format) -> tuple[np.ndarray, Int64, Int64]:
    """Arrival, offset and line number of every row; every row has been read as a job once."""
    places = np.fromiter(_places(file, chosen), np.dtype("f8,i8,i8"))
    return places["f0"], places["f1"], places["f2"]


def _places(file: CsvFile, chosen: Format) -> Iterable[tuple[float, int, int]]:
    for row in file.rows():
        arrival = chosen.arrival(row)
        chosen.job(row, 1, arrival)
        yield arrival, row.offset, row.line
