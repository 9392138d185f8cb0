"""Clusters for scheduler tests: random ones, the effect of a committed plan, brute-force checks."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

from hypothesis import strategies as st

from hypervisor.scheduling.plan_result import Placement, Plan
from hypervisor.scheduling.snapshots.builder import SnapshotBuilder
from hypervisor.scheduling.snapshots.snapshot import Nomination, Shape, Snapshot

NOW = 1_000.0
PRIORITIES = (100, 500, 750)


@dataclass(frozen=True)
class Node:
    id: int
    cpu: int
    ram: int
    gpus: int
    model: str | None = None
    zone: str = "a"
    disk: str | None = None
    schedulable: bool = True


@dataclass(frozen=True)
class Running:
    """An allocation; its deployment has the same id, except for gangs."""

    id: int
    node_id: int
    shape: Shape
    devices: tuple[int, ...]
    priority: int
    preemptible: bool = True
    releasing: bool = False
    started_at: float = 0.0
    protected_until: float = -math.inf
    gang: int | None = None
    spread: bool = False

    @property
    def deployment(self) -> int:
        return self.id if self.gang is None else self.gang


@dataclass(frozen=True)
class Pending:
    id: int
    shape: Shape
    priority: int
    created_at: float = 0.0
    preemptible: bool = True
    protected: bool = False
    replicas: int = 1
    spread: bool = False

    @property
    def rank(self) -> tuple[int, float, int]:
        return (-self.priority, self.created_at, self.id)


@dataclass(frozen=True)
class World:
    """A cluster as plain objects; `snapshot()` is the scheduler's input."""

    nodes: tuple[Node, ...]
    running: tuple[Running, ...] = ()
    pending: tuple[Pending, ...] = ()
    nominations: tuple[Nomination, ...] = field(default=())

    def snapshot(self) -> Snapshot:
        builder = SnapshotBuilder(NOW)
        for node in self.nodes:
            builder.add_node(
                node.id,
                cpu_milli=node.cpu,
                ram_mib=node.ram,
                gpu_count=node.gpus,
                gpu_model=node.model,
                labels={"zone": node.zone, **({"disk": node.disk} if node.disk else {})},
                schedulable=node.schedulable,
            )
        for run in self.running:
            builder.add_allocation(
                run.id,
                deployment_id=run.deployment,
                node_id=run.node_id,
                cpu_milli=run.shape.cpu_milli,
                ram_mib=run.shape.ram_mib,
                gpu_indices=run.devices,
                gpu_each=run.shape.gpu_milli_per_device,
                priority=run.priority,
                preemptible=run.preemptible,
                releasing=run.releasing,
                started_at=run.started_at,
                protected_until=run.protected_until,
            )
        for item in self.pending:
            builder.add_pending(
                item.id,
                item.shape,
                priority=item.priority,
                created_at=item.created_at,
                preemptible=item.preemptible,
                protected=item.protected,
                replicas=item.replicas,
                spread=item.spread,
            )
        for nomination in self.nominations:
            builder.nominate(
                nomination.deployment_id,
                nomination.node_id,
                nomination.gpu_indices,
                replica=nomination.replica,
            )
        return builder.build()


def commit(world: World, plan: Plan) -> World:
    """The cluster after the plan was committed: placements run, victims are releasing."""
    waiting = {item.id: item for item in world.pending}
    evicted = {eviction.allocation_id for eviction in plan.evictions}
    running = [replace(run, releasing=True) if run.id in evicted else run for run in world.running]
    for placement in plan.placements:
        item = waiting[placement.deployment_id]
        alone = item.replicas == 1
        running.append(
            Running(
                item.id if alone else 1000 * item.id + placement.replica,
                placement.node_id,
                item.shape,
                placement.gpu_indices,
                item.priority,
                preemptible=item.preemptible,
                started_at=NOW,
                protected_until=math.inf if item.protected else -math.inf,
                gang=None if alone else item.id,
                spread=item.spread,
            )
        )
    placed = {placement.deployment_id for placement in plan.placements}
    return replace(
        world,
        running=tuple(running),
        pending=tuple(item for item in world.pending if item.id not in placed),
        nominations=tuple(plan.nominations),
    )


def placed_or_nominated(plan: Plan) -> list[Placement | Nomination]:
    """All placements and nominations of the plan."""
    return [*plan.placements, *plan.nominations]


def after_victims_end(world: World, requeue: bool = True) -> World:
    """The world after every releasing allocation has ended; evicted deployments are back in the queue."""
    ended = {run.deployment: run for run in world.running if run.releasing and requeue}
    sizes = Counter(run.deployment for run in world.running if run.releasing)
    back = tuple(
        Pending(
            id_,
            run.shape,
            run.priority,
            created_at=-1.0,
            preemptible=run.preemptible,
            replicas=sizes[id_],
            spread=run.spread,
        )
        for id_, run in ended.items()
    )
    return replace(
        world,
        running=tuple(run for run in world.running if not run.releasing),
        pending=world.pending + back,
    )


def free_on(world: World, node: Node, without: Iterable[int] = ()) -> tuple[int, int, list[int]]:
    """Free CPU, RAM and milli-GPU per device of the node, without the allocations in `without`."""
    ended = set(without)
    cpu, ram, gpu = node.cpu, node.ram, [1000] * node.gpus
    for run in world.running:
        if run.node_id == node.id and run.id not in ended:
            cpu -= run.shape.cpu_milli
            ram -= run.shape.ram_mib
            for device in run.devices:
                gpu[device] -= run.shape.gpu_milli_per_device
    return cpu, ram, gpu


def admits(node: Node, shape: Shape) -> bool:
    """Whether the node's state, model and labels admit the shape."""
    model = not shape.gpu_models or not shape.gpu_milli or node.model in shape.gpu_models
    return node.schedulable and model and all(value == node.zone for _, value in shape.node_selector)


def fits(shape: Shape, capacity: tuple[int, int, list[int]]) -> bool:
    cpu, ram, gpu = capacity
    if cpu < shape.cpu_milli or ram < shape.ram_mib:
        return False
    return sum(free >= shape.gpu_milli_per_device for free in gpu) >= shape.gpu_device_count


def take(
    capacity: tuple[int, int, list[int]], shape: Shape, devices: Iterable[int]
) -> tuple[int, int, list[int]]:
    cpu, ram, gpu = capacity
    left = list(gpu)
    for device in devices:
        left[device] -= shape.gpu_milli_per_device
    return cpu - shape.cpu_milli, ram - shape.ram_mib, left


def count_on(shape: Shape, capacity: tuple[int, int, list[int]], most: int) -> int:
    """How many replicas of the shape fit into the capacity, tried one by one."""
    for count in range(most):
        if not fits(shape, capacity):
            return count
        usable = [index for index, free in enumerate(capacity[2]) if free >= shape.gpu_milli_per_device]
        usable.sort(key=lambda index: capacity[2][index])
        capacity = take(capacity, shape, usable[: shape.gpu_device_count])
    return most


def gang_fits(world: World, item: Pending, without: Iterable[int] = ()) -> bool:
    """Whether all replicas fit at the same time, without the allocations in `without`."""
    ended = tuple(without)
    nodes = [node for node in world.nodes if admits(node, item.shape)]
    capacities = [free_on(world, node, ended) for node in nodes]
    return sum(count_on(item.shape, capacity, item.replicas) for capacity in capacities) >= item.replicas


def smaller_sets(victims: tuple[int, ...]) -> Iterable[tuple[int, ...]]:
    """Every set with one victim fewer."""
    return combinations(victims, len(victims) - 1) if victims else ()


SHAPES = st.builds(
    Shape,
    cpu_milli=st.sampled_from([0, 500, 1000, 2000, 3000]),
    ram_mib=st.sampled_from([0, 512, 1024, 3072]),
    gpu_milli=st.sampled_from([0, 0, 300, 500, 700, 1000, 1000, 2000, 3000]),
    gpu_models=st.sampled_from([(), (), (), ("A",), ("A", "B")]),
    node_selector=st.sampled_from([(), (), (), (("zone", "a"),)]),
)


SMALL_SHAPES = st.builds(
    Shape,
    cpu_milli=st.sampled_from([500, 1000]),
    ram_mib=st.sampled_from([512, 1024]),
    gpu_milli=st.sampled_from([0, 300, 500, 1000, 1000]),
)
LARGE_SHAPES = st.builds(
    Shape,
    cpu_milli=st.sampled_from([1000, 2000, 4000]),
    ram_mib=st.sampled_from([1024, 2048, 4096]),
    gpu_milli=st.sampled_from([0, 700, 1000, 2000, 4000]),
)


@st.composite
def worlds(draw: st.DrawFn, *, max_nodes: int = 4, max_pending: int = 8) -> World:
    """A random consistent cluster: nothing over capacity, no nominations yet.

    Half of them are crowded: small work of low priority on all nodes, large pending requests.
    """
    crowded = draw(st.booleans())
    nodes = tuple(draw(_nodes(index, crowded)) for index in range(draw(st.integers(int(crowded), max_nodes))))
    world = World(nodes)
    tries = draw(st.integers(4, 6 * len(nodes))) if crowded else draw(st.integers(0, 10)) if nodes else 0
    for number in range(tries):
        world = _with_running(draw, world, number, crowded)
    pending = tuple(
        Pending(
            id=1000 + number,
            shape=draw(LARGE_SHAPES if crowded else SHAPES),
            priority=draw(st.sampled_from([500, 750] if crowded else PRIORITIES)),
            created_at=float(draw(st.integers(0, 3))),
            preemptible=draw(st.sampled_from([True, True, False])),
            protected=draw(st.sampled_from([False, False, True])),
        )
        for number in range(draw(st.integers(int(crowded), max_pending)))
    )
    return replace(world, pending=pending)


@st.composite
def gang_worlds(draw: st.DrawFn, *, max_nodes: int = 4, max_pending: int = 6) -> World:
    """A random cluster with running and pending gangs."""
    world = draw(worlds(max_nodes=max_nodes, max_pending=max_pending))
    heads: dict[int, Running] = {}
    running = []
    for run in world.running:
        head = heads.get(run.shape.gpu_milli_per_device)
        if head is not None and draw(st.booleans()):
            run = replace(head, id=run.id, node_id=run.node_id, devices=run.devices, shape=run.shape)
        elif draw(st.booleans()):
            run = heads[run.shape.gpu_milli_per_device] = replace(run, gang=run.id)
        running.append(run)
    pending = tuple(
        replace(item, replicas=draw(st.sampled_from([1, 2, 2, 3, 4, 6])), spread=draw(st.booleans()))
        for item in world.pending
    )
    return replace(world, running=tuple(running), pending=pending)


@st.composite
def _nodes(draw: st.DrawFn, index: int, crowded: bool) -> Node:
    plain = gpu_node(10 * index, gpus=draw(st.sampled_from([1, 2, 4])))
    if crowded:
        return replace(
            plain, cpu=draw(st.sampled_from([3000, 5000])), ram=draw(st.sampled_from([3072, 8192]))
        )
    return Node(
        id=10 * index + draw(st.integers(0, 9)),
        cpu=draw(st.sampled_from([2000, 4000, 8000])),
        ram=draw(st.sampled_from([2048, 4096, 8192])),
        gpus=draw(st.sampled_from([0, 1, 2, 4])),
        model=draw(st.sampled_from(["A", "B", None])),
        zone=draw(st.sampled_from(["a", "b"])),
        schedulable=draw(st.sampled_from([True, True, True, False])),
    )


def _with_running(draw: st.DrawFn, world: World, number: int, crowded: bool) -> World:
    """Add one allocation, if it fits anywhere."""
    node = draw(st.sampled_from(world.nodes))
    shape = draw(SMALL_SHAPES if crowded else SHAPES)
    shape = replace(shape, gpu_models=(), node_selector=())
    capacity = free_on(world, node)
    if not fits(shape, capacity):
        return world
    usable = [index for index, free in enumerate(capacity[2]) if free >= shape.gpu_milli_per_device]
    devices = draw(st.permutations(usable))[: shape.gpu_device_count] if shape.gpu_device_count else []
    run = Running(
        id=number + 1,
        node_id=node.id,
        shape=shape,
        devices=tuple(sorted(devices)),
        priority=draw(st.sampled_from([100, 100, 200, 500] if crowded else PRIORITIES)),
        preemptible=draw(st.sampled_from([True] * 7 + [False])),
        releasing=draw(st.sampled_from([False] * 5 + [True])),
        started_at=float(draw(st.integers(0, 5)) * 100),
        protected_until=draw(st.sampled_from([-math.inf] * 6 + [NOW, NOW + 1])),
    )
    return replace(world, running=(*world.running, run))


def gpu(devices: float, *, cpu: int = 1000, ram: int = 1024) -> Shape:
    """A request for devices (or a part of one) with a little CPU and RAM."""
    return Shape(cpu, ram, round(devices * 1000))


def cpu(cores: int, *, ram: int = 1024) -> Shape:
    """A request for cores, without a GPU."""
    return Shape(cores * 1000, ram)


def gpu_node(node_id: int, gpus: int = 4, **more: Any) -> Node:
    """A node with plenty of CPU and RAM, so that only GPUs are scarce."""
    return replace(Node(node_id, cpu=64_000, ram=65_536, gpus=gpus), **more)
