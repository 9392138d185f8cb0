"""Node lists: the published openb list, and the simulator's own CSV format."""

from __future__ import annotations

from pathlib import Path

from hypervisor.kernel.resources import InvalidAmount, Resources
from hypervisor.simulation.errors import WorkloadError
from hypervisor.simulation.node_specs import UNLIMITED, NodeSpec, NodeSpecs
from hypervisor.simulation.readers.csv_file import CsvFile, Row
from hypervisor.simulation.readers.csv_format import check_columns, node_gpu_count

COLUMNS = ("name", "count", "cpu_cores", "ram_gb", "gpu_count", "gpu_model")


def read_nodes(path: Path) -> NodeSpecs:
    """Read a node list of either format. Raises WorkloadError with file and line."""
    file = CsvFile(path)
    if "cpu_milli" in file.columns:
        file.require("sn", "cpu_milli", "memory_mib", "gpu")
        nodes = tuple(_openb_node(row) for row in file.rows())
    else:
        file.require("name")
        check_columns(file, COLUMNS)
        nodes = tuple(node for row in file.rows() for node in _csv_nodes(row))
    if not nodes:
        raise WorkloadError(f"{path}: the file has no nodes")
    return nodes


def _openb_node(row: Row) -> NodeSpec:
    return NodeSpec(
        row.text("sn"),
        row.integer("cpu_milli"),
        row.integer("memory_mib"),
        node_gpu_count(row, "gpu"),
        row.text("model", "") or None,
    )


def _csv_nodes(row: Row) -> list[NodeSpec]:
    """The `count` equal nodes of a row. Empty CPU or RAM is unlimited."""
    try:
        amount = Resources.from_edge(
            cpu_cores=row.number("cpu_cores", 0.0), ram_gb=row.number("ram_gb", 0.0), gpu_count=0.0
        )
    except InvalidAmount as error:
        raise row.error(str(error)) from None
    name, count = row.text("name"), row.integer("count", 1)
    return [
        NodeSpec(
            name if count == 1 else f"{name}-{number}",
            amount.cpu_milli if row.text("cpu_cores", "") else UNLIMITED,
            amount.ram_mib if row.text("ram_gb", "") else UNLIMITED,
            node_gpu_count(row, "gpu_count"),
            row.text("gpu_model", "") or None,
        )
        for number in range(1, count + 1)
    ]
