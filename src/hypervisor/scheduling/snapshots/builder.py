"""Builds a `Snapshot` item by item: interns request shapes and turns the rows into arrays."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hypervisor.kernel.resources import WHOLE_GPU, Resources
from hypervisor.scheduling.snapshots.snapshot import (
    MAX_GPUS_PER_NODE,
    AllocationTable,
    NodeTable,
    Nomination,
    PendingTable,
    Quota,
    Shape,
    Snapshot,
)

_NO_LABELS: Mapping[str, str] = {}
_NodeRow = tuple[int, int, int, int, bool, str, str | None, Mapping[str, str]]
_AllocationRow = tuple[int, int, int, int, int, int, int, int, bool, bool, float, float, float, int, float]
_PendingRow = tuple[int, int, float, int, bool, bool, int, bool, int, float, float]


@dataclass(slots=True)
class SnapshotBuilder:
    """Collects one cluster at `now` (seconds since the epoch); `build()` gives the frozen snapshot.

    Rows may be added in any order; nodes are sorted by id. Amounts are milli-CPU, MiB and milli-GPU.
    """

    now: float
    _nodes: list[_NodeRow] = field(default_factory=list)
    _allocations: list[_AllocationRow] = field(default_factory=list)
    _pending: list[_PendingRow] = field(default_factory=list)
    _nominations: list[Nomination] = field(default_factory=list)
    _shapes: dict[Shape, int] = field(default_factory=dict)
    _quotas: dict[int, Quota] = field(default_factory=dict)
    _quota_rows: dict[int, int] = field(default_factory=dict)
    _frozen_pairs: list[tuple[int, int]] = field(default_factory=list)

    def add_node(
        self,
        node_id: int,
        *,
        cpu_milli: int,
        ram_mib: int,
        gpu_count: int = 0,
        name: str | None = None,
        gpu_model: str | None = None,
        labels: Mapping[str, str] | None = None,
        schedulable: bool = True,
    ) -> SnapshotBuilder:
        """Add a node. Raises ValueError for more than 64 GPUs."""
        if not 0 <= gpu_count <= MAX_GPUS_PER_NODE:
            raise ValueError(f"a node has 0 to {MAX_GPUS_PER_NODE} GPUs, not {gpu_count}")
        shown = name if name is not None else f"node-{node_id}"
        self._nodes.append(
            (node_id, cpu_milli, ram_mib, gpu_count, schedulable, shown, gpu_model, labels or _NO_LABELS)
        )
        return self

    def add_allocation(
        self,
        allocation_id: int,
        *,
        deployment_id: int,
        node_id: int,
        cpu_milli: int,
        ram_mib: int,
        gpu_indices: Iterable[int] = (),
        gpu_each: int = WHOLE_GPU,
        priority: int = 0,
        preemptible: bool = True,
        releasing: bool = False,
        started_at: float = 0.0,
        work_since: float | None = None,
        protected_until: float = -math.inf,
        organization_id: int | None = None,
        ends_at: float = math.inf,
    ) -> SnapshotBuilder:
        """Add an allocation; `gpu_each` is the milli-GPU taken of each device in `gpu_indices`."""
        mask = 0
        for index in gpu_indices:
            mask |= 1 << index
        self._allocations.append(
            (
                allocation_id,
                deployment_id,
                node_id,
                cpu_milli,
                ram_mib,
                gpu_each if mask else 0,
                mask,
                priority,
                preemptible,
                releasing,
                started_at,
                started_at if work_since is None else work_since,
                protected_until,
                self._quota_row(organization_id),
                ends_at,
            )
        )
        return self

    def add_pending(
        self,
        deployment_id: int,
        shape: Shape,
        *,
        priority: int = 0,
        created_at: float = 0.0,
        preemptible: bool = True,
        protected: bool = False,
        replicas: int = 1,
        spread: bool = False,
        organization_id: int | None = None,
        max_runtime: float = math.inf,
        eligible_since: float | None = None,
    ) -> SnapshotBuilder:
        """Add a deployment that waits and may start now; `eligible_since` defaults to `created_at`."""
        index = self._shapes.setdefault(shape, len(self._shapes))
        self._pending.append(
            (
                deployment_id,
                priority,
                created_at,
                index,
                preemptible,
                protected,
                replicas,
                spread,
                self._quota_row(organization_id),
                max_runtime,
                created_at if eligible_since is None else eligible_since,
            )
        )
        return self

    def add_quota(self, quota: Quota) -> SnapshotBuilder:
        """Add what an organization may use; call it before or after its deployments are added."""
        self._quotas[quota.organization_id] = quota
        return self

    def freeze_pair(self, preemptor_id: int, victim_id: int) -> SnapshotBuilder:
        """Forbid one deployment to evict another, because they have evicted each other before."""
        self._frozen_pairs.append((preemptor_id, victim_id))
        return self

    def nominate(
        self, deployment_id: int, node_id: int, gpu_indices: Iterable[int] = (), *, replica: int = 0
    ) -> SnapshotBuilder:
        """Add the nomination of a replica of a pending deployment, made by an earlier pass."""
        self._nominations.append(Nomination(deployment_id, node_id, tuple(gpu_indices), replica))
        return self

    def build(self) -> Snapshot:
        """Freeze the snapshot. Raises ValueError for duplicate node ids or allocations on unknown nodes."""
        nodes = sorted(self._nodes, key=lambda row: row[0])
        row_of = {row[0]: index for index, row in enumerate(nodes)}
        if len(row_of) != len(nodes):
            raise ValueError("two nodes have the same id")
        return Snapshot(
            now=self.now,
            nodes=_node_table(nodes),
            allocations=_allocation_table(self._allocations, row_of),
            pending=_pending_table(self._pending),
            shapes=tuple(self._shapes),
            nominations=tuple(self._nominations),
            quotas=tuple(self._quota_of(organization) for organization in self._quota_rows),
            frozen_pairs=tuple(self._frozen_pairs),
        )

    def _quota_row(self, organization_id: int | None) -> int:
        if organization_id is None:
            return -1
        return self._quota_rows.setdefault(organization_id, len(self._quota_rows))

    def _quota_of(self, organization_id: int) -> Quota:
        """An organization without a quota has no guarantee and no limit."""
        return self._quotas.get(organization_id) or Quota(organization_id, Resources())


def _node_table(rows: list[_NodeRow]) -> NodeTable:
    ids, cpu, ram, gpus, schedulable, names, models, labels = _columns(rows, 8)
    return NodeTable(
        id=np.array(ids, np.int64),
        cpu_milli=np.array(cpu, np.int64),
        ram_mib=np.array(ram, np.int64),
        gpu_count=np.array(gpus, np.int32),
        schedulable=np.array(schedulable, np.bool_),
        name=names,
        gpu_model=models,
        labels=labels,
    )


def _allocation_table(rows: list[_AllocationRow], row_of: Mapping[int, int]) -> AllocationTable:
    columns = _columns(rows, 15)
    unknown = {node for node in columns[2] if node not in row_of}
    if unknown:
        raise ValueError(f"allocations name nodes that are not in the snapshot: {sorted(unknown)[:5]}")
    return AllocationTable(
        id=np.array(columns[0], np.int64),
        deployment_id=np.array(columns[1], np.int64),
        node=np.array([row_of[node] for node in columns[2]], np.int32),
        cpu_milli=np.array(columns[3], np.int64),
        ram_mib=np.array(columns[4], np.int64),
        gpu_milli_per_device=np.array(columns[5], np.int32),
        gpu_mask=np.array(columns[6], np.uint64),
        priority=np.array(columns[7], np.int32),
        preemptible=np.array(columns[8], np.bool_),
        releasing=np.array(columns[9], np.bool_),
        started_at=np.array(columns[10], np.float64),
        work_since=np.array(columns[11], np.float64),
        protected_until=np.array(columns[12], np.float64),
        organization=np.array(columns[13], np.int32),
        ends_at=np.array(columns[14], np.float64),
    )


def _pending_table(rows: list[_PendingRow]) -> PendingTable:
    ids, priority, created_at, shape, preemptible, protected, *more = _columns(rows, 11)
    replicas, spread, organization, max_runtime, eligible_since = more
    return PendingTable(
        deployment_id=np.array(ids, np.int64),
        priority=np.array(priority, np.int32),
        created_at=np.array(created_at, np.float64),
        shape=np.array(shape, np.int32),
        preemptible=np.array(preemptible, np.bool_),
        protected=np.array(protected, np.bool_),
        replicas=np.array(replicas, np.int32),
        spread=np.array(spread, np.bool_),
        organization=np.array(organization, np.int32),
        max_runtime=np.array(max_runtime, np.float64),
        eligible_since=np.array(eligible_since, np.float64),
    )


def _columns(rows: Sequence[tuple[Any, ...]], width: int) -> tuple[tuple[Any, ...], ...]:
    """Turn rows into columns; no rows give empty columns."""
    return tuple(zip(*rows, strict=True)) if rows else ((),) * width
