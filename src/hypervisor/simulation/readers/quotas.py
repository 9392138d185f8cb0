"""Quota files: the quota of each organization, as CSV."""

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
_MIN_WEIGHT, _MAX_WEIGHT = 0.001, 1000.0


def read_quotas(path: Path) -> tuple[QuotaTerms, ...]:
    """Read a quota file with one organization per row. Raises WorkloadError with file and line."""
    file = CsvFile(path)
    file.require("organization")
    check_columns(file, COLUMNS)
    by_organization: dict[str, QuotaTerms] = {}
    for row in file.rows():
        terms = QuotaTerms(
            row.text("organization"), _bounds(row, "guaranteed"), _bounds(row, "limit"), _weight(row)
        )
        if terms.organization in by_organization:
            raise row.error(f"{terms.organization} has two rows")
        by_organization[terms.organization] = terms
    if not by_organization:
        raise WorkloadError(f"{path}: the file has no organizations")
    return tuple(by_organization.values())


def _bounds(row: Row, kind: str) -> Amounts:
    """The amount of each resource; None for an empty field."""
    cpu, ram, gpu = (row.number(f"{kind}_{name}", 0.0) for name in _RESOURCES)
    try:
        amount = Resources.from_edge(cpu_cores=cpu, ram_gb=ram, gpu_count=gpu)
    except InvalidAmount as error:
        raise row.error(str(error)) from None
    has_cpu, has_ram, has_gpu = (bool(row.text(f"{kind}_{name}", "")) for name in _RESOURCES)
    return (
        amount.cpu_milli if has_cpu else None,
        amount.ram_mib if has_ram else None,
        amount.gpu_milli if has_gpu else None,
    )


def _weight(row: Row) -> float:
    weight = row.number("weight", 1.0)
    if not _MIN_WEIGHT <= weight <= _MAX_WEIGHT:
        raise row.error(f"weight must be from {_MIN_WEIGHT:g} to {_MAX_WEIGHT:g}, not {weight:g}")
    return weight
