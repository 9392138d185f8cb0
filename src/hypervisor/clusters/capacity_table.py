"""The nodes of a cluster in the form of the scheduler, by capacity alone."""

from __future__ import annotations

from collections.abc import Sequence

from hypervisor.clusters.repository import Capacity
from hypervisor.scheduling.snapshots.builder import SnapshotBuilder
from hypervisor.scheduling.snapshots.snapshot import NodeTable


def capacity_table(nodes: Sequence[Capacity]) -> NodeTable:
    """The table of these nodes. One that is being made smaller has its target size."""
    builder = SnapshotBuilder(0.0)
    for node in nodes:
        builder.add_node(
            node.id,
            cpu_milli=_future(node.cpu_milli, node.target_cpu_milli),
            ram_mib=_future(node.ram_mib, node.target_ram_mib),
            gpu_count=_future(node.gpu_count, node.target_gpu_count),
            name=node.name,
            gpu_model=node.gpu_model,
            labels=node.labels,
        )
    return builder.build().nodes


def _future(capacity: int, target: int | None) -> int:
    return capacity if target is None else min(capacity, target)
