"""What the engine tells those who watch it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import inf
from typing import Protocol

from hypervisor.kernel.resources import WHOLE_GPU
from hypervisor.scheduling.snapshots.snapshot import Int64, Shape
from hypervisor.simulation.jobs import Job


@dataclass(slots=True)
class Ticket:
    """A job on its way through the system. `started_first` is None until it has run for the first time.

    `organization` is its organization's number, -1 where the cluster is not shared. `evicted_at` are the
    times of its last evictions, as many as a preemption budget asks for.
    """

    job: Job
    organization: int = -1
    started_first: float | None = None
    evictions: int = 0
    evicted_at: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class NodeShare:
    """Where one replica runs: a row of the nodes, and its devices there."""

    node: int
    devices: tuple[int, ...]


@dataclass(slots=True)
class Attempt:
    """One run of a job: where each of its replicas is, by number, and since when.

    Its allocations have the ids from `id` on, one a replica. `stopped_at` is when it was evicted; it does no
    work after that, but holds its capacity for the grace. Until `protected_until` nobody evicts it.
    """

    id: int
    ticket: Ticket
    places: tuple[NodeShare, ...]
    started_at: float
    stopped_at: float | None = None
    protected_until: float = -inf


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a job can never run here; `code` is for counting, `sentence` for people."""

    code: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Split:
    """A job of `gpus` whole GPUs, more than a node has, runs as equal `replicas` of `gpus_each`.

    `fills_nodes` says that some nodes have just as many.
    """

    gpus: int
    replicas: int
    gpus_each: int
    fills_nodes: bool

    def of(self, job: Job) -> Job:
        """The job in replicas."""
        return replace(job, shape=self.of_shape(job.shape), replicas=self.replicas)

    def of_shape(self, shape: Shape) -> Shape:
        """One of the replicas; CPU and RAM are divided as well, and rounded up."""
        return replace(
            shape,
            cpu_milli=-(-shape.cpu_milli // self.replicas),
            ram_mib=-(-shape.ram_mib // self.replicas),
            gpu_milli=self.gpus_each * WHOLE_GPU,
        )


@dataclass(slots=True)
class Load:
    """How full the cluster is and what waits; amounts of all nodes together."""

    running: int = 0
    cpu_milli: int = 0
    ram_mib: int = 0
    gpu_milli: int = 0
    waiting: int = 0
    waiting_gpu_milli: int = 0


@dataclass(frozen=True, slots=True)
class Room:
    """What is free on each node: milli-CPU, MiB, and milli-GPU by device. To look at, not to write to."""

    cpu_milli: Int64
    ram_mib: Int64
    gpu_milli: Int64


class Observer(Protocol):
    """Called in the order of events. Times are seconds since the first arrival."""

    def passed(self, start: float, end: float, load: Load, room: Room) -> None:
        """Nothing changed from `start` to `end`."""

    def arrived(self, job: Job, now: float) -> None:
        """As it will run, so in replicas if it was split."""

    def split(self, job: Job, how: Split, now: float) -> None:
        """It arrived as one piece that no node could take; called after `arrived`."""

    def rejected(self, job: Job, why: Rejection, now: float) -> None: ...

    def started(self, attempt: Attempt, now: float) -> None: ...

    def evicted(self, attempt: Attempt, preemptor_id: int, now: float) -> None:
        """It stops working now, and is waiting again when its capacity was released."""

    def released(self, attempt: Attempt, now: float) -> None:
        """Its capacity is free: it was evicted, or its work is done."""

    def ended(self, attempt: Attempt, now: float) -> None:
        """Its work is done; called after `released`."""
