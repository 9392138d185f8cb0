"""Nominations that are active during a pass, and the capacity that they claim."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain

from hypervisor.kernel.resources import WHOLE_GPU
from hypervisor.scheduling.capacity.working_state import Claim, WorkingState
from hypervisor.scheduling.preemption.victims import EvictionCandidate
from hypervisor.scheduling.snapshots.requests import Request


@dataclass(frozen=True, slots=True)
class ActiveNomination:
    """The nomination of one replica. `rank` is the position of its deployment in the queue.

    `evictable_on_start`: it could be evicted as soon as it runs, because it is preemptible and has no minimum
    runtime. `claim` is its claimed capacity.
    """

    row: int
    rank: int
    deployment_id: int
    priority: int
    evictable_on_start: bool
    request: Request
    node: int
    devices: tuple[int, ...]
    claim: Claim
    replica: int = 0

    def as_candidate(self) -> EvictionCandidate:
        """The candidate that a higher-ranked deployment may override; it has no lost work."""
        return EvictionCandidate(
            row=-1,
            id=self.deployment_id,
            priority=self.priority,
            lost_work=0.0,
            started_at=float("inf"),
            cpu=self.request.cpu,
            ram=self.request.ram,
            devices=self.devices,
            milli_per_device=self.request.milli_per_device,
        )


class ActiveNominations:
    """All active nominations, by pending row and by node."""

    def __init__(self, capacity: WorkingState) -> None:
        self._capacity = capacity
        self._by_row: dict[int, tuple[ActiveNomination, ...]] = {}
        self._by_node: dict[int, dict[tuple[int, int], ActiveNomination]] = {}
        self._unconfirmed: dict[tuple[int, int], int] = {}

    def is_feasible(self, request: Request, node: int, devices: tuple[int, ...]) -> bool:
        """Whether these devices of the node, and CPU and RAM, are idle or releasing for the request."""
        capacity = self._capacity
        if not request.eligible[node] or len(set(devices)) != request.device_count:
            return False
        if devices and not 0 <= min(devices) <= max(devices) < int(capacity.nodes.gpu_count[node]):
            return False
        if (
            capacity.idle_cpu[node] + capacity.releasing_cpu[node] < request.cpu
            or capacity.idle_ram[node] + capacity.releasing_ram[node] < request.ram
        ):
            return False
        need = WHOLE_GPU if request.whole_devices else request.milli_per_device
        return all(capacity.idle_gpu[node, i] + capacity.releasing_gpu[node, i] >= need for i in devices)

    def add(self, nomination: ActiveNomination, confirmed: bool) -> None:
        """Activate a nomination that has its claim.

        `confirmed`: the pass has reached its deployment; before that, deployments ahead may override it.
        """
        if not confirmed:
            self._unconfirmed[nomination.row, nomination.replica] = nomination.node
        self._by_row[nomination.row] = (*self._by_row.get(nomination.row, ()), nomination)
        self._by_node.setdefault(nomination.node, {})[nomination.row, nomination.replica] = nomination

    def drop(self, row: int) -> tuple[ActiveNomination, ...]:
        """Remove the nominations of all replicas of the pending row, and return them.

        The caller invalidates the working state if that frees capacity.
        """
        dropped = self._by_row.pop(row, ())
        for held in dropped:
            key = (row, held.replica)
            self._unconfirmed.pop(key, None)
            on_node = self._by_node[held.node]
            del on_node[key]
            if not on_node:
                del self._by_node[held.node]
            self._capacity.release_claim(held.claim)
        return dropped

    def first_of(self, row: int) -> ActiveNomination | None:
        """The nomination of the only replica, or of the first replica of a gang."""
        return next(iter(self._by_row.get(row, ())), None)

    def of_row(self, row: int) -> tuple[ActiveNomination, ...]:
        """The nominations of all its replicas, in the order of the replicas."""
        return self._by_row.get(row, ())

    def on_node(self, node: int) -> Iterable[ActiveNomination]:
        """The nominations on a node."""
        return self._by_node.get(node, {}).values()

    def unconfirmed_nodes(self) -> list[int]:
        """Nodes with nominations whose deployments the pass has not reached yet."""
        return sorted(set(self._unconfirmed.values()))

    def any(self) -> bool:
        """Whether anything is nominated."""
        return bool(self._by_row)

    def all(self) -> Iterable[ActiveNomination]:
        """All nominations, deployment by deployment."""
        return chain.from_iterable(self._by_row.values())
