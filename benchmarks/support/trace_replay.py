"""The replay of a trace: each arrival is decided by a scheduler, and its final state is recorded."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from benchmarks.support.openb_trace import TraceNode, TracePod
from benchmarks.support.trace_cluster import Cluster, Item, PodPlacement
from hypervisor.scheduling.capacity.feasibility import fits_idle, usable_devices
from hypervisor.scheduling.capacity.working_state import WorkingState
from hypervisor.scheduling.plan import plan
from hypervisor.scheduling.plan_result import Placement, Plan
from hypervisor.scheduling.policy import Policy
from hypervisor.scheduling.snapshots.requests import Eligibility
from hypervisor.scheduling.snapshots.snapshot import Nomination, Snapshot


@dataclass(slots=True)
class Arrival:
    """A pod and its final state; `pod_placement` is None when it does not run at the end."""

    pod: TracePod
    pod_placement: PodPlacement | None = None
    evictions: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """The final state of all arrivals. `decision_seconds` does not include the creation of the snapshots."""

    nodes: Sequence[TraceNode]
    arrivals: Sequence[Arrival]
    decision_seconds: Sequence[float]


class Scheduler(Protocol):
    """A function like `plan()` that decides on a snapshot."""

    def __call__(self, snapshot: Snapshot) -> Plan: ...


class PlanScheduler:
    """The server's `plan()` with a policy."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    def __call__(self, snapshot: Snapshot) -> Plan:
        return plan(snapshot, self._policy)


class RandomScheduler:
    """A random node that fits, then random devices of it, for a queue of one pod."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)

    def __call__(self, snapshot: Snapshot) -> Plan:
        state = WorkingState(snapshot)
        request = Eligibility(snapshot.nodes).request(0, snapshot.shapes[0])
        fitting = np.flatnonzero(fits_idle(state, request)).tolist()
        if not fitting:
            return Plan()
        node = self._rng.choice(fitting)
        usable = usable_devices(request, state.idle_gpu[node].tolist()) if request.device_count else []
        devices = tuple(sorted(self._rng.sample(usable, request.device_count)))
        deployment_id = int(snapshot.pending.deployment_id[0])
        return Plan(placements=(Placement(deployment_id, int(snapshot.nodes.id[node]), devices),))


class Replay:
    """The replay of one seed. No pod ends, and victims stop at once.

    `gap` is the time between two arrivals in seconds. The protocol has no times, so `gap` only determines the
    lost work of an eviction; with 0 no work is lost.
    """

    def __init__(
        self, nodes: Sequence[TraceNode], pods: Sequence[TracePod], scheduler: Scheduler, gap: float = 1.0
    ) -> None:
        self._nodes = nodes
        self._cluster = Cluster(nodes)
        self._scheduler = scheduler
        self._gap = gap
        self._arrivals = [Arrival(pod) for pod in pods]
        self._seconds: list[float] = []

    def run(self, priority: bool) -> Outcome:
        """Replay all arrivals. With `priority`, pods that do not run at the end are tried once more."""
        items = [
            Item(number, arrival.pod.shape, arrival.pod.priority if priority else 0, float(number))
            for number, arrival in enumerate(self._arrivals)
        ]
        for item in items:
            self._submit(item.created_at * self._gap, [item])
        if priority:
            waiting = [item for item in items if item.id not in self._cluster.running]
            self._submit(len(items) * self._gap, waiting)
        for number, (_, pod_placement) in self._cluster.running.items():
            self._arrivals[number].pod_placement = pod_placement
        return Outcome(self._nodes, self._arrivals, self._seconds)

    def _submit(self, now: float, waiting: Sequence[Item]) -> None:
        """Decide on these pods once. Pods with a nomination are decided again after the evictions."""
        nominations: Sequence[Nomination] = ()
        while waiting:
            decided = self._decide(self._cluster.snapshot(now, waiting, nominations))
            by_id = {item.id: item for item in waiting}
            for eviction in decided.evictions:
                self._cluster.stop(eviction.allocation_id)
                self._arrivals[eviction.deployment_id].evictions += 1
            for placement in decided.placements:
                pod_placement = PodPlacement(placement.node_id, placement.gpu_indices)
                self._cluster.start(by_id[placement.deployment_id], pod_placement, now)
            nominations = decided.nominations
            waiting = [by_id[nomination.deployment_id] for nomination in nominations]

    def _decide(self, snapshot: Snapshot) -> Plan:
        started = time.perf_counter()
        decided = self._scheduler(snapshot)
        self._seconds.append(time.perf_counter() - started)
        return decided
