"""A cluster with cheap snapshots, for the measurement of thousands of single decisions.

The allocations are NumPy columns that grow and shrink in place. A snapshot has views of them and is valid
until the next change.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.support.openb_trace import TraceNode
from hypervisor.scheduling.snapshots.snapshot import (
    AllocationTable,
    NodeTable,
    Nomination,
    PendingTable,
    Shape,
    Snapshot,
)
from hypervisor.simulation.columns import allocation_columns

_NEVER = -np.inf


@dataclass(frozen=True, slots=True)
class Item:
    """A pod. Its id is the id of its deployment and of its allocation."""

    id: int
    shape: Shape
    priority: int = 0
    created_at: float = 0.0


@dataclass(frozen=True, slots=True)
class PodPlacement:
    """The placement of a pod: node id and device indices."""

    node_id: int
    devices: tuple[int, ...]


class Cluster:
    """Nodes with ids from 1 in the order of the list, and their pods, which are all preemptible."""

    def __init__(self, nodes: Sequence[TraceNode]) -> None:
        self.nodes = node_table(nodes)
        self.running: dict[int, tuple[Item, PodPlacement]] = {}
        self._columns = allocation_columns()

    def start(self, item: Item, pod_placement: PodPlacement, now: float) -> None:
        """Start a pod, without a check of the capacity."""
        shape = item.shape
        mask = sum(1 << device for device in pod_placement.devices)
        amounts = (shape.cpu_milli, shape.ram_mib, shape.gpu_milli_per_device if mask else 0, mask)
        row: tuple[Any, ...] = (item.id, item.id, pod_placement.node_id - 1, *amounts, item.priority)
        self._columns.add((*row, True, False, now, now, _NEVER, -1, math.inf))
        self.running[item.id] = item, pod_placement

    def stop(self, item_id: int) -> Item:
        """End a pod at once and return it."""
        self._columns.remove(item_id)
        return self.running.pop(item_id)[0]

    def snapshot(
        self, now: float, pending: Sequence[Item], nominations: Iterable[Nomination] = ()
    ) -> Snapshot:
        """The snapshot, valid until the next `start` or `stop`."""
        shapes: dict[Shape, int] = {}
        rows = [shapes.setdefault(item.shape, len(shapes)) for item in pending]
        return Snapshot(
            now=now,
            nodes=self.nodes,
            allocations=AllocationTable(**self._columns.views()),
            pending=PendingTable(
                deployment_id=np.array([item.id for item in pending], np.int64),
                priority=np.array([item.priority for item in pending], np.int32),
                created_at=np.array([item.created_at for item in pending], np.float64),
                shape=np.array(rows, np.int32),
                preemptible=np.ones(len(pending), np.bool_),
                protected=np.zeros(len(pending), np.bool_),
                replicas=np.ones(len(pending), np.int32),
                spread=np.zeros(len(pending), np.bool_),
                organization=np.full(len(pending), -1, np.int32),
                max_runtime=np.full(len(pending), np.inf),
                eligible_since=np.array([item.created_at for item in pending], np.float64),
            ),
            shapes=tuple(shapes),
            nominations=tuple(nominations),
        )


def node_table(nodes: Sequence[TraceNode]) -> NodeTable:
    """The node table of the snapshot, with ids from 1 in the order of the list."""
    return NodeTable(
        id=np.arange(1, len(nodes) + 1, dtype=np.int64),
        cpu_milli=np.array([node.cpu_milli for node in nodes], np.int64),
        ram_mib=np.array([node.ram_mib for node in nodes], np.int64),
        gpu_count=np.array([node.gpu_count for node in nodes], np.int32),
        schedulable=np.ones(len(nodes), np.bool_),
        name=tuple(node.name for node in nodes),
        gpu_model=tuple(node.gpu_model for node in nodes),
        labels=({},) * len(nodes),
    )
