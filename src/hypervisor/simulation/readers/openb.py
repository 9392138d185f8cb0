"""The openb format: pod lists of Alibaba's cluster-trace-gpu-v2023.

Times are seconds since the start of the trace. A pod arrives at its creation. It runs from its scheduling (or
its creation, if the scheduling is not recorded) to its deletion. The QoS class determines the priority.
"""

from __future__ import annotations

from hypervisor.kernel.priority import NAMED_PRIORITIES
from hypervisor.kernel.resources import WHOLE_GPU
from hypervisor.scheduling.snapshots.snapshot import Shape
from hypervisor.simulation.jobs import Job
from hypervisor.simulation.readers.csv_file import CsvFile, Row
from hypervisor.simulation.readers.csv_format import parse_gpu_models

PRIORITY_OF_QOS = {
    "LS": NAMED_PRIORITIES["CRITICAL"],
    "Guaranteed": NAMED_PRIORITIES["HIGH"],
    "Burstable": NAMED_PRIORITIES["MEDIUM"],
    "BE": NAMED_PRIORITIES["LOW"],
}


class OpenbFormat:
    name = "openb"
    required = (
        "cpu_milli",
        "memory_mib",
        "num_gpu",
        "gpu_milli",
        "qos",
        "creation_time",
        "deletion_time",
    )

    def recognises(self, file: CsvFile) -> bool:
        return {"num_gpu", "gpu_milli"} <= set(file.columns)

    def check(self, file: CsvFile) -> None:
        file.require(*self.required)

    def arrival(self, row: Row) -> float:
        return row.number("creation_time")

    def job(self, row: Row, number: int, arrival: float) -> Job:
        qos = row.text("qos")
        if qos not in PRIORITY_OF_QOS:
            raise row.error(f"qos must be one of {', '.join(PRIORITY_OF_QOS)}, not {qos!r}")
        began = row.number("scheduled_time", row.number("creation_time"))
        duration = row.number("deletion_time") - began
        if duration < 0:
            raise row.error("deletion_time is before the start of the pod")
        return Job(
            id=number,
            arrival=arrival,
            duration=duration,
            shape=Shape(
                row.integer("cpu_milli"),
                row.integer("memory_mib"),
                _gpu_milli(row),
                gpu_models=parse_gpu_models(row.text("gpu_spec", "")),
            ),
            organization="openb",
            priority=PRIORITY_OF_QOS[qos],
        )


def _gpu_milli(row: Row) -> int:
    """The milli-GPU of all devices. The column is per device; a fraction needs exactly one device."""
    devices = row.integer("num_gpu")
    milli = row.integer("gpu_milli") if devices else 0
    if devices and not 0 < milli <= WHOLE_GPU:
        raise row.error(f"gpu_milli must be from 1 to {WHOLE_GPU}, not {milli}")
    if devices > 1 and milli != WHOLE_GPU:
        raise row.error(f"gpu_milli must be {WHOLE_GPU} for {devices} GPUs, not {milli}")
    return devices * milli
