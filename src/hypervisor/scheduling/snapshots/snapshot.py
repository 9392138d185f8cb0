"""The input of the scheduler: one cluster at one moment, as columns.

Tables are structures of NumPy arrays, one row per item. So a pass over 100,000 pending deployments and 10,000
nodes needs no Python object per row. All amounts are integers (milli-CPU, MiB, milli-GPU). All times are
seconds since the Unix epoch, as float64.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hypervisor.kernel.resources import Resources

Int64 = NDArray[np.int64]
Int32 = NDArray[np.int32]
Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]
GpuMask = NDArray[np.uint64]

MAX_GPUS_PER_NODE = 64


@dataclass(frozen=True, slots=True)
class Shape:
    """An equivalence class of requests: a node that fits one request of the class fits all.

    `gpu_milli` is 0, 1..999 (a part of one device) or a multiple of 1000 (whole devices). `gpu_models`
    empty means any model; `node_selector` holds sorted (label, value) pairs that a node must carry.
    """

    cpu_milli: int
    ram_mib: int
    gpu_milli: int = 0
    gpu_models: tuple[str, ...] = ()
    node_selector: tuple[tuple[str, str], ...] = ()

    @property
    def gpu_device_count(self) -> int:
        """How many distinct devices it needs (a fraction needs one)."""
        return -(-self.gpu_milli // 1000)

    @property
    def gpu_milli_per_device(self) -> int:
        """The milli-GPU taken of each of those devices."""
        return min(self.gpu_milli, 1000)

    @property
    def resources(self) -> Resources:
        return Resources(self.cpu_milli, self.ram_mib, self.gpu_milli)

    @classmethod
    def of(cls, required: Resources, limits: Mapping[str, Any] | None) -> Shape:
        """The class of a request; `limits` as in `Deployment.placement_limits`."""
        if not limits:
            return cls(required.cpu_milli, required.ram_mib, required.gpu_milli)
        return cls(
            required.cpu_milli,
            required.ram_mib,
            required.gpu_milli,
            tuple(sorted(limits.get("gpu_models", ()))),
            tuple(sorted(limits.get("node_selector", {}).items())),
        )


@dataclass(frozen=True, slots=True, eq=False)
class NodeTable:
    """The nodes of the cluster; rows are ordered by node id.

    `schedulable` is False for cordoned, draining and unreachable nodes: nothing new starts there. Capacity is
    the usable amount; for a node that is being shrunk it is the target size.
    """

    id: Int64
    cpu_milli: Int64
    ram_mib: Int64
    gpu_count: Int32
    schedulable: Bool
    name: tuple[str, ...]
    gpu_model: tuple[str | None, ...]
    labels: tuple[Mapping[str, str], ...]

    def __len__(self) -> int:
        return len(self.id)


@dataclass(frozen=True, slots=True, eq=False)
class AllocationTable:
    """Everything that holds capacity: starting, running and stopping attempts, one row per (attempt, node).

    `node` is a row of the NodeTable. `gpu_mask` has bit i set where device i is used, `gpu_milli_per_device`
    is the milli-GPU taken of each. `protected_until` is when `min_runtime_seconds` ends (-inf where there is
    none). `work_since` is the start or the last reported checkpoint: lost work counts from there. `releasing`
    rows have a stop request: they still hold capacity, and they are never victims. `organization` is an index
    into `Snapshot.quotas` (-1: no quota applies). `ends_at` is when `max_runtime_seconds` is over, +inf where
    there is none. The rows of one deployment are its replicas: they start together and are evicted together.
    """

    id: Int64
    deployment_id: Int64
    node: Int32
    cpu_milli: Int64
    ram_mib: Int64
    gpu_milli_per_device: Int32
    gpu_mask: GpuMask
    priority: Int32
    preemptible: Bool
    releasing: Bool
    started_at: Float64
    work_since: Float64
    protected_until: Float64
    organization: Int32
    ends_at: Float64

    def __len__(self) -> int:
        return len(self.id)


@dataclass(frozen=True, slots=True, eq=False)
class PendingTable:
    """Deployments that wait and may start now (dependencies met, back-off over), in any order.

    `created_at` orders the queue: a preempted deployment keeps its time of creation. `shape` is an index into
    `Snapshot.shapes`. `preemptible`: it could be evicted once it runs. `protected`: a minimum runtime would
    protect it then. `replicas` start all or none, each of `shape`; `spread` prefers different nodes, else
    replicas are packed. `organization` is an index into `Snapshot.quotas` (-1: no quota applies).
    `max_runtime` is in seconds, +inf where there is none. Age counts from `eligible_since` (the time it was
    blocked does not count).
    """

    deployment_id: Int64
    priority: Int32
    created_at: Float64
    shape: Int32
    preemptible: Bool
    protected: Bool
    replicas: Int32
    spread: Bool
    organization: Int32
    max_runtime: Float64
    eligible_since: Float64

    def __len__(self) -> int:
        return len(self.deployment_id)


@dataclass(frozen=True, slots=True)
class Nomination:
    """Capacity on a node that is reserved for one replica of a pending deployment until it runs.

    Stored with the evictions for it. `node_id` is the node's id, not its row.
    """

    deployment_id: int
    node_id: int
    gpu_indices: tuple[int, ...]
    replica: int = 0


@dataclass(frozen=True, slots=True)
class Quota:
    """The quota of one organization on the cluster (Kueue's nominal quota and limit, KAI's weight).

    `guaranteed` is lent to others while idle and reclaimed when needed; `limit` None has no upper bound;
    what is above the guarantees is shared by dominant resource in proportion to `weight` (> 0).
    """

    organization_id: int
    guaranteed: Resources
    limit: Resources | None = None
    weight: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """One cluster at `now`. Immutable; the arrays must not be written to."""

    now: float
    nodes: NodeTable
    allocations: AllocationTable
    pending: PendingTable
    shapes: tuple[Shape, ...]
    nominations: tuple[Nomination, ...] = ()
    quotas: tuple[Quota, ...] = ()
    frozen_pairs: tuple[tuple[int, int], ...] = ()
    """(preemptor, victim) ids of deployments that evicted each other before and may not do so again."""
