"""A job, its runs, and the outcome of its admission check."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import inf

from hypervisor.kernel.priority import DEFAULT_PRIORITY
from hypervisor.kernel.resources import MILLI, WHOLE_GPU
from hypervisor.scheduling.snapshots.snapshot import Shape

MOST_REPLICAS = 64
"""The most replicas that a deployment may have."""


@dataclass(frozen=True, slots=True)
class Job:
    """One job of a workload.

    `arrival` is in seconds since the first arrival of the workload. `duration` is the run time in seconds;
    infinity means until the simulation ends. `id` counts arrivals from 1 and is the deployment id in the
    snapshot. `shape` is the request of each of the `replicas`. The replicas `spread` over nodes or are
    packed. A `divisible` job may be split into replicas when no node is large enough. Each run is safe from
    eviction for `min_runtime` seconds.
    """

    id: int
    arrival: float
    duration: float
    shape: Shape
    organization: str = "default"
    priority: int = DEFAULT_PRIORITY
    preemptible: bool = True
    replicas: int = 1
    divisible: bool = False
    spread: bool = False
    min_runtime: float = 0.0

    @property
    def gpu_milli(self) -> int:
        """Milli-GPU of all replicas together."""
        return self.shape.gpu_milli * self.replicas

    @property
    def gpus(self) -> float:
        """GPUs of all replicas together."""
        return self.gpu_milli / MILLI

    @property
    def cores(self) -> float:
        """CPU cores of all replicas together."""
        return self.shape.cpu_milli * self.replicas / MILLI


@dataclass(slots=True)
class JobRecord:
    """An admitted job and its history.

    `first_started_at` is None before the first run. `organization` is the index of the organization's quota,
    -1 when the cluster is not shared. `evicted_at` holds the times of the last evictions, as many as the
    preemption budget needs.
    """

    job: Job
    organization: int = -1
    first_started_at: float | None = None
    evictions: int = 0
    evicted_at: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class ReplicaPlacement:
    """The node (by row of the node table) and the GPUs of one replica."""

    node: int
    gpu_indices: tuple[int, ...]


@dataclass(slots=True)
class Attempt:
    """One run of a job, with one placement per replica.

    The allocations have consecutive ids from `id` on, one per replica. `stopped_at` is the time of the
    eviction: the attempt does no more work, but holds its capacity for the grace period. The attempt cannot
    be evicted before `protected_until`.
    """

    id: int
    record: JobRecord
    placements: tuple[ReplicaPlacement, ...]
    started_at: float
    stopped_at: float | None = None
    protected_until: float = -inf


@dataclass(frozen=True, slots=True)
class Rejection:
    """The reason why a job can never run: `code` for counting, `sentence` for people."""

    code: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Split:
    """A job of `gpus` whole GPUs, more than one node has, runs as equal `replicas` with `gpus_each` GPUs.

    `fills_nodes` is True when some node has exactly `gpus_each` GPUs.
    """

    gpus: int
    replicas: int
    gpus_each: int
    fills_nodes: bool

    def apply_to(self, job: Job) -> Job:
        """The job in replicas."""
        return replace(job, shape=self.replica_shape(job.shape), replicas=self.replicas)

    def replica_shape(self, shape: Shape) -> Shape:
        """The request of one replica. CPU and RAM are divided as well, and rounded up."""
        return replace(
            shape,
            cpu_milli=-(-shape.cpu_milli // self.replicas),
            ram_mib=-(-shape.ram_mib // self.replicas),
            gpu_milli=self.gpus_each * WHOLE_GPU,
        )
