"""What each organization may use of the simulated cluster, as CSV."""

from __future__ import annotations

from pathlib import Path

from hypervisor.kernel.resources import InvalidAmount, Resources
from hypervisor.simulation.errors import WorkloadError
from hypervisor.simulation.quotas import Amounts, QuotaTerms
from hypervisor.simulation.readers.csv_file import CsvFile, Row
from hypervisor.simulation.readers.csv_format import check_columns

_RESOURCES = ("cpu", "ram_gb", "gpu")
COLUMNS = (
    "organization",
    *(f"guaranteed_{name}" for name in _RESOURCES),
    *(f"limit_{name}" for name in _RESOURCES),
    "weight",
)
_LEAST_WEIGHT, _MOST_WEIGHT = 0.001, 1000.0


def read_quotas(path: Path) -> tuple[QuotaTerms, ...]:
    """One organization a row. Raises WorkloadError with file and line."""
    file = CsvFile(path)
    file.require("organization")
    check_columns(file, COLUMNS)
    found: dict[str, QuotaTerms] = {}
    for row in file.rows():
        terms = QuotaTerms(
            row.text("organization"), _bounds(row, "guaranteed"), _bounds(row, "limit"), _weight(row)
        )
        if terms.organization in found:
            raise row.error(f"{terms.organization} is named twice")
        found[terms.organization] = terms
    if not found:
        raise WorkloadError(f"{path}: there are no organizations in it")
    return tuple(found.values())


def _bounds(row: Row, kind: str) -> Amounts:
    """What is given of each resource; None where the field is empty."""
    cpu, ram, gpu = (row.number(f"{kind}_{name}", 0.0) for name in _RESOURCES)
    try:
        amount = Resources.from_edge(cpu_cores=cpu, ram_gb=ram, gpu_count=gpu)
    except InvalidAmount as error:
        raise row.error(str(error)) from None
    given = [bool(row.text(f"{kind}_{name}", "")) for name in _RESOURCES]
    return (
        amount.cpu_milli if given[0] else None,
        amount.ram_mib if given[1] else None,
        amount.gpu_milli if given[2] else None,
    )


def _weight(row: Row) -> float:
    weight = row.number("weight", 1.0)
    if not _LEAST_WEIGHT <= weight <= _MOST_WEIGHT:
        raise row.error(f"weight must be from {_LEAST_WEIGHT:g} to {_MOST_WEIGHT:g}, not {weight:g}")
    return weight
