"""A small cluster in virtual time, with random arrivals and ends until a stop time."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from hypervisor.scheduling.plan_result import Plan
from hypervisor.scheduling.snapshots.builder import SnapshotBuilder
from hypervisor.scheduling.snapshots.snapshot import Nomination, Shape, Snapshot

STOP = 60.0
"""The time in seconds after which no job arrives or ends."""

_PRIORITIES = (100, 500, 750, 1000)
_SHAPES = (
    *((1000 * cores, 1024 * cores, 0) for cores in (1, 2, 4, 8)),
    *((1000, 2048, milli) for milli in (200, 300, 460, 500, 700, 1000, 1000, 2000, 3000, 4000)),
    *((4000, 8192, milli) for milli in (500, 1000, 2000, 4000)),
)


@dataclass(frozen=True, slots=True)
class Node:
    id: int
    cpu: int
    ram: int
    gpus: int
    model: str


@dataclass(frozen=True, slots=True)
class Job:
    id: int
    shape: Shape
    priority: int
    arrival: float
    duration: float
    preemptible: bool
    min_runtime: float
    grace: float

    @property
    def rank(self) -> tuple[int, float, int]:
        """The sort key of the queue: priority, arrival, id."""
        return (-self.priority, self.arrival, self.id)


@dataclass(slots=True)
class Running:
    """A job on a node; `ends` is the time at which its capacity is free."""

    job: Job
    node_id: int
    devices: tuple[int, ...]
    started_at: float
    ends: float
    releasing: bool = False

    @property
    def protected_until(self) -> float:
        return self.started_at + self.job.min_runtime if self.job.min_runtime else -math.inf

    def evictable(self, now: float) -> bool:
        return self.job.preemptible and not self.releasing and self.protected_until <= now


@dataclass(slots=True)
class VirtualCluster:
    """The state at `now`. An evicted job waits again after its grace period."""

    nodes: Sequence[Node]
    arriving: list[Job]
    now: float = -1.0
    waiting: dict[int, Job] = field(default_factory=dict)
    running: dict[int, Running] = field(default_factory=dict)
    nominations: tuple[Nomination, ...] = ()

    def snapshot(self) -> Snapshot:
        """The snapshot of the present state."""
        builder = SnapshotBuilder(self.now)
        for node in self.nodes:
            builder.add_node(
                node.id, cpu_milli=node.cpu, ram_mib=node.ram, gpu_count=node.gpus, gpu_model=node.model
            )
        for run in self.running.values():
            _add_allocation(builder, run)
        for job in self.waiting.values():
            builder.add_pending(
                job.id,
                job.shape,
                priority=job.priority,
                created_at=job.arrival,
                preemptible=job.preemptible,
                protected=job.min_runtime > 0,
            )
        for nomination in self.nominations:
            builder.nominate(nomination.deployment_id, nomination.node_id, nomination.gpu_indices)
        return builder.build()

    def apply(self, decided: Plan) -> None:
        """Start the placed jobs and stop the victims."""
        for placement in decided.placements:
            job = self.waiting.pop(placement.deployment_id)
            ends = self.now + job.duration
            self.running[job.id] = Running(
                job, placement.node_id, placement.gpu_indices, self.now, ends if ends <= STOP else math.inf
            )
        for eviction in decided.evictions:
            victim = self.running[eviction.allocation_id]
            victim.releasing = True
            victim.ends = min(victim.ends, self.now + victim.job.grace)
        self.nominations = decided.nominations

    def advance(self) -> bool:
        """Advance to the time of the next event. Returns False without a further event."""
        times = [run.ends for run in self.running.values()]
        times += [job.arrival for job in self.arriving[:1]]
        times += [run.protected_until for run in self.running.values()]
        later = [time for time in times if self.now < time < math.inf]
        if not later:
            return False
        self.now = min(later)
        for run in [run for run in self.running.values() if run.ends <= self.now]:
            del self.running[run.job.id]
            if run.releasing:
                self.waiting[run.job.id] = run.job
        while self.arriving and self.arriving[0].arrival <= self.now:
            job = self.arriving.pop(0)
            self.waiting[job.id] = job
        return True


def random_cluster(rng: random.Random) -> VirtualCluster:
    """One to four nodes and more jobs than fit.

    In every second cluster, priorities rise with the arrivals.
    """
    nodes = [
        Node(
            number,
            cpu=rng.choice((4000, 8000, 16_000)),
            ram=rng.choice((8192, 16_384, 32_768)),
            gpus=rng.choice((0, 1, 2, 4)),
            model=rng.choice("AB"),
        )
        for number in range(1, rng.randint(2, 5))
    ]
    jobs = [_random_job(rng, number) for number in range(1, rng.randint(5, 36))]
    if rng.random() < 0.5:
        rising = sorted(job.priority for job in jobs)
        jobs.sort(key=lambda job: (job.arrival, job.id))
        jobs = [replace(job, priority=priority) for job, priority in zip(jobs, rising, strict=True)]
    return VirtualCluster(nodes, sorted(jobs, key=lambda job: (job.arrival, job.id)))


def free_on(
    node: Node, running: Iterable[Running], taken: Iterable[tuple[Shape, Sequence[int]]] = ()
) -> tuple[int, int, list[int]]:
    """The free CPU, RAM and milli-GPU per device, after the running jobs and the other claims."""
    cpu, ram, gpu = node.cpu, node.ram, [1000] * node.gpus
    claims = [(run.job.shape, run.devices) for run in running if run.node_id == node.id]
    for shape, devices in [*claims, *taken]:
        cpu -= shape.cpu_milli
        ram -= shape.ram_mib
        for device in devices:
            gpu[device] -= shape.gpu_milli_per_device
    return cpu, ram, gpu


def fits(shape: Shape, node: Node, free: tuple[int, int, list[int]]) -> bool:
    """Whether the GPU model of the node is accepted and the shape fits into the free amounts."""
    if shape.gpu_models and shape.gpu_milli and node.model not in shape.gpu_models:
        return False
    cpu, ram, gpu = free
    enough = sum(idle >= shape.gpu_milli_per_device for idle in gpu) >= shape.gpu_device_count
    return enough and cpu >= shape.cpu_milli and ram >= shape.ram_mib


def _random_job(rng: random.Random, number: int) -> Job:
    cpu, ram, gpu = rng.choice(_SHAPES)
    return Job(
        id=number,
        shape=Shape(cpu, ram, gpu, rng.choice(((), (), (), ("A",), ("A", "B")))),
        priority=rng.choice(_PRIORITIES),
        arrival=float(rng.randrange(int(STOP) + 1)),
        duration=rng.choice((5.0, 20.0, 1000.0, 1000.0)),
        preemptible=rng.random() < 0.85,
        min_runtime=rng.choice((0.0, 0.0, 0.0, 10.0, 50.0)),
        grace=rng.choice((1.0, 5.0, 30.0)),
    )


def _add_allocation(builder: SnapshotBuilder, run: Running) -> None:
    shape = run.job.shape
    builder.add_allocation(
        run.job.id,
        deployment_id=run.job.id,
        node_id=run.node_id,
        cpu_milli=shape.cpu_milli,
        ram_mib=shape.ram_mib,
        gpu_indices=run.devices,
        gpu_each=shape.gpu_milli_per_device,
        priority=run.job.priority,
        preemptible=run.job.preemptible,
        releasing=run.releasing,
        started_at=run.started_at,
        protected_until=run.protected_until,
    )
