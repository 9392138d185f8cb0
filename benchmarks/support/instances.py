"""Small, nearly full clusters as in "Priority Matters" (arXiv 2511.08373), and the result of a policy."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from benchmarks.support.openb_trace import TraceNode
from benchmarks.support.trace_cluster import Cluster, Item, PodPlacement
from hypervisor.scheduling.defragmentation.consolidation import consolidate
from hypervisor.scheduling.plan import plan
from hypervisor.scheduling.plan_result import Placement, Plan
from hypervisor.scheduling.policy import Policy
from hypervisor.scheduling.snapshots.snapshot import Nomination, Shape

NODES = (4, 8, 16)
PODS_PER_NODE = (4, 8)
PRIORITIES = (1, 2, 4)
UTILIZATION = (90, 95, 100, 105)
_MOST_PASSES = 1_000


@dataclass(frozen=True, slots=True)
class Group:
    """Equal pods that arrive together."""

    shape: Shape
    priority: int
    replicas: int


@dataclass(frozen=True, slots=True)
class Instance:
    """Equal nodes with `cpu_milli` and `ram_mib`, and pod groups in order of arrival."""

    nodes: int
    cpu_milli: int
    ram_mib: int
    groups: tuple[Group, ...]

    @property
    def levels(self) -> list[int]:
        """The priorities of the groups, the highest first."""
        return sorted({group.priority for group in self.groups}, reverse=True)


@dataclass(frozen=True, slots=True)
class Result:
    """The final state: `where` counts running pods by (group, node), both from 0; `moves` of running pods."""

    where: Counter[tuple[int, int]]
    evictions: int
    moves: int
    seconds: float

    def placed(self, instance: Instance) -> tuple[int, ...]:
        """Running pods by priority, the highest first."""
        by_level: Counter[int] = Counter()
        for (group, _), count in self.where.items():
            by_level[instance.groups[group].priority] += count
        return tuple(by_level[level] for level in instance.levels)


def make_instance(rng: random.Random) -> Instance:
    """A random instance. The capacity of a node is the total request divided by nodes and utilization."""
    nodes, per_node = rng.choice(NODES), rng.choice(PODS_PER_NODE)
    levels, percent = rng.choice(PRIORITIES), rng.choice(UTILIZATION)
    groups: list[Group] = []
    left = nodes * per_node
    while left:
        replicas = min(rng.randint(1, 4), left)
        shape = Shape(rng.randint(100, 1000), rng.randint(100, 1000))
        groups.append(Group(shape, rng.randint(1, levels), replicas))
        left -= replicas
    cpu = sum(group.shape.cpu_milli * group.replicas for group in groups)
    ram = sum(group.shape.ram_mib * group.replicas for group in groups)
    return Instance(
        nodes, -(-100 * cpu // (nodes * percent)), -(-100 * ram // (nodes * percent)), tuple(groups)
    )


def run_policy(instance: Instance, policy: Policy, together: bool = False, consolidation: int = 0) -> Result:
    """Plan after each arrival of a group (or one arrival of all, with `together`) until nothing changes.

    Victims stop at once and return to their old position in the queue. At the end, running pods are moved as
    `consolidate()` proposes within `consolidation` steps.
    """
    run = _Run(instance, policy)
    started = time.perf_counter()
    groups = _items(instance)
    for batch in [list(chain.from_iterable(groups))] if together else groups:
        run.arrive(batch)
    if consolidation:
        run.consolidate(consolidation)
    seconds = time.perf_counter() - started
    return Result(run.where(), run.evictions, run.moves, seconds)


def _items(instance: Instance) -> list[list[Item]]:
    """The pods of each group. The id of a pod is `group * 8 + replica`."""
    return [
        [
            Item(number * 8 + replica, group.shape, group.priority, float(number))
            for replica in range(group.replicas)
        ]
        for number, group in enumerate(instance.groups)
    ]


class _Run:
    def __init__(self, instance: Instance, policy: Policy) -> None:
        nodes = [
            TraceNode(f"node-{number}", instance.cpu_milli, instance.ram_mib, 0, None)
            for number in range(instance.nodes)
        ]
        self._policy = policy
        self._cluster = Cluster(nodes)
        self._waiting: dict[int, Item] = {}
        self._now = 0.0
        self.evictions = 0
        self.moves = 0

    def arrive(self, items: Sequence[Item]) -> None:
        self._waiting.update((item.id, item) for item in items)
        for decided in self._passes():
            for eviction in decided.evictions:
                victim = self._cluster.stop(eviction.allocation_id)
                self._waiting[victim.id] = victim
                self.evictions += 1
            self._start(decided.placements)

    def consolidate(self, steps: int) -> None:
        """Make all moves of one proposal, start the pods that then fit, and plan again."""
        snapshot = self._cluster.snapshot(self._now, list(self._waiting.values()))
        found = consolidate(snapshot, self._policy, steps)
        moving = [(self._cluster.stop(one.deployment_id), one) for one in found.moves]
        for item, move in moving:
            self._cluster.start(item, PodPlacement(move.to_node, move.gpu_indices), self._now)
        self._start(found.placements)
        self.moves += len(moving)
        self.arrive([])

    def _start(self, placements: Sequence[Placement]) -> None:
        for placement in placements:
            item = self._waiting.pop(placement.deployment_id)
            self._cluster.start(item, PodPlacement(placement.node_id, placement.gpu_indices), self._now)

    def _passes(self) -> Iterator[Plan]:
        nominations: Sequence[Nomination] = ()
        for _ in range(_MOST_PASSES):
            self._now += 1.0
            snapshot = self._cluster.snapshot(self._now, list(self._waiting.values()), nominations)
            decided = plan(snapshot, self._policy)
            if not decided.placements and not decided.evictions:
                return
            nominations = decided.nominations
            yield decided
        raise RuntimeError(f"the plan still changes after {_MOST_PASSES} passes")

    def where(self) -> Counter[tuple[int, int]]:
        return Counter(
            (item.id // 8, pod_placement.node_id - 1)
            for item, pod_placement in self._cluster.running.values()
        )
