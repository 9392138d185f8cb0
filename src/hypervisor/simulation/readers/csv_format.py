"""The simulator's own CSV workload format; docs/simulator.md describes the columns."""

from __future__ import annotations

import math
from difflib import get_close_matches

from hypervisor.kernel.priority import InvalidPriority, parse_priority
from hypervisor.kernel.resources import InvalidAmount, Resources, check_gpu_request
from hypervisor.scheduling.snapshots.snapshot import MAX_GPUS_PER_NODE, Shape
from hypervisor.simulation.errors import WorkloadError
from hypervisor.simulation.jobs import MOST_REPLICAS, Job
from hypervisor.simulation.readers.csv_file import CsvFile, Row

REQUIRED = ("arrival_seconds", "duration_seconds")
COLUMNS = (
    *REQUIRED,
    "name",
    "organization",
    "priority",
    "cpu_cores",
    "ram_gb",
    "gpu_count",
    "gpu_model",
    "replicas",
    "replica_placement",
    "preemptible",
    "min_runtime_seconds",
)
OLD_PLACEMENT, PLACEMENT = "placement", "replica_placement"
"""The old name of a column is accepted for one version, like that of the deployment's field."""

PACK, SPREAD = "pack", "spread"


class CsvFormat:
    """Columns in any order. An unknown column is an error, because it may be a misspelled name."""

    name = "csv"
    required = REQUIRED

    def recognises(self, file: CsvFile) -> bool:
        return "arrival_seconds" in file.columns

    def check(self, file: CsvFile) -> None:
        file.require(*self.required)
        check_columns(file, COLUMNS, old=(OLD_PLACEMENT,))
        if {OLD_PLACEMENT, PLACEMENT} <= set(file.columns):
            raise WorkloadError(f"{file.path}:1: give {PLACEMENT} only; {OLD_PLACEMENT} is its old name")

    def arrival(self, row: Row) -> float:
        return row.number("arrival_seconds")

    def job(self, row: Row, number: int, arrival: float) -> Job:
        return Job(
            id=number,
            arrival=arrival,
            duration=row.number("duration_seconds", math.inf),
            shape=Shape(*_amounts(row), gpu_models=parse_gpu_models(row.text("gpu_model", ""))),
            organization=row.text("organization", "default"),
            priority=_priority(row),
            preemptible=row.boolean("preemptible", True),
            replicas=_replicas(row),
            spread=_spread(row),
            min_runtime=row.number("min_runtime_seconds", 0.0),
        )


def check_columns(file: CsvFile, known: tuple[str, ...], old: tuple[str, ...] = ()) -> None:
    """Raise WorkloadError for a column that is neither known nor an old name, with the most similar name."""
    for name in file.columns:
        if name not in known and name not in old:
            matches = get_close_matches(name, known, n=1)
            hint = f"did you mean {matches[0]}?" if matches else f"known columns are {', '.join(known)}"
            raise WorkloadError(f"{file.path}:1: unknown column {name!r}; {hint}")


def parse_gpu_models(text: str) -> tuple[str, ...]:
    """`A|B` as ("A", "B"); empty for any model."""
    return tuple(sorted({part.strip() for part in text.split("|") if part.strip()}))


def _amounts(row: Row) -> tuple[int, int, int]:
    try:
        amount = Resources.from_edge(
            cpu_cores=row.number("cpu_cores", 0.0),
            ram_gb=row.number("ram_gb", 0.0),
            gpu_count=row.number("gpu_count", 0.0),
        )
        check_gpu_request(amount.gpu_milli)
    except InvalidAmount as error:
        raise row.error(str(error)) from None
    if amount.is_zero:
        raise row.error("the request is empty: set cpu_cores, ram_gb or gpu_count")
    return amount.cpu_milli, amount.ram_mib, amount.gpu_milli


def _replicas(row: Row) -> int:
    replicas = row.integer("replicas", 1)
    if not 1 <= replicas <= MOST_REPLICAS:
        raise row.error(f"replicas must be from 1 to {MOST_REPLICAS}, not {replicas}")
    return replicas


def _spread(row: Row) -> bool:
    column = OLD_PLACEMENT if row.text(OLD_PLACEMENT, "") else PLACEMENT
    placement = row.text(column, PACK).lower()
    if placement not in (PACK, SPREAD):
        raise row.error(f"{column} must be {PACK} or {SPREAD}, not {placement!r}")
    return placement == SPREAD


def _priority(row: Row) -> int:
    try:
        return parse_priority(row.text("priority", "MEDIUM"))
    except InvalidPriority as error:
        raise row.error(str(error)) from None


def node_gpu_count(row: Row, column: str) -> int:
    """The GPU count of a node. Raises WorkloadError for more than MAX_GPUS_PER_NODE."""
    count = row.integer(column, 0)
    if count > MAX_GPUS_PER_NODE:
        raise row.error(f"a node has at most {MAX_GPUS_PER_NODE} GPUs, not {count}")
    return count
