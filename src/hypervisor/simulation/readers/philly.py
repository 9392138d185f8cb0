"""The Philly format: GPU jobs of Microsoft's Philly cluster, as CSV.

The columns are timestamp, duration, num_gpus, gpu_time and cluster. The virtual cluster is the organization.
The trace has no CPU, RAM or priority, so jobs request whole GPUs only, at the default priority. It does not
record the placement of large jobs on servers, so jobs are divisible.
"""

from __future__ import annotations

from datetime import UTC, datetime

from hypervisor.kernel.resources import WHOLE_GPU
from hypervisor.scheduling.snapshots.snapshot import Shape
from hypervisor.simulation.jobs import Job
from hypervisor.simulation.readers.csv_file import CsvFile, Row


class PhillyFormat:
    name = "philly"
    required = ("timestamp", "duration", "num_gpus", "cluster")

    def recognises(self, file: CsvFile) -> bool:
        return {"timestamp", "num_gpus"} <= set(file.columns)

    def check(self, file: CsvFile) -> None:
        file.require(*self.required)

    def arrival(self, row: Row) -> float:
        text = row.text("timestamp")
        try:
            return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()
        except ValueError:
            raise row.error(f"timestamp must be like 2017-10-09 07:01:55, not {text!r}") from None

    def job(self, row: Row, number: int, arrival: float) -> Job:
        devices = row.integer("num_gpus")
        if not devices:
            raise row.error("num_gpus must be at least 1")
        return Job(
            id=number,
            arrival=arrival,
            duration=row.number("duration"),
            shape=Shape(0, 0, devices * WHOLE_GPU),
            organization=row.text("cluster"),
            divisible=True,
        )
