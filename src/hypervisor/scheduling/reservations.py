"""Capacity kept for nominated deployments, node by node."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from hypervisor.kernel.resources import WHOLE_GPU
from hypervisor.scheduling.requests import Request
from hypervisor.scheduling.victims import Candidate
from hypervisor.scheduling.working import Claim, WorkingState


@dataclass(frozen=True, slots=True)
class Reservation:
    """One nomination in force. `rank` is its place in the queue order.

    `yields` says that it would be evictable once it runs (preemptible, without a minimum runtime).
    """

    row: int
    rank: int
    deployment_id: int
    priority: int
    yields: bool
    request: Request
    node: int
    devices: tuple[int, ...]
    claim: Claim

    def as_candidate(self) -> Candidate:
        """How it looks to a higher-ranked deployment that may override it: no work is lost with it."""
        return Candidate(
            row=-1,
            id=self.deployment_id,
            priority=self.priority,
            lost=0.0,
            started_at=float("inf"),
            cpu=self.request.cpu,
            ram=self.request.ram,
            devices=self.devices,
            each=self.request.each,
        )


class Reservations:
    """All nominations in force, by pending row and by node."""

    def __init__(self, state: WorkingState) -> None:
        self._state = state
        self._by_row: dict[int, Reservation] = {}
        self._by_node: dict[int, dict[int, Reservation]] = {}
        self._unsettled: dict[int, int] = {}

    def can_keep(self, request: Request, node: int, devices: tuple[int, ...]) -> bool:
        """Whether these devices of the node, and CPU and RAM, are free or coming for the request."""
        state = self._state
        if not request.eligible[node] or len(set(devices)) != request.devices:
            return False
        if devices and not 0 <= min(devices) <= max(devices) < int(state.nodes.gpu_count[node]):
            return False
        if (
            state.free_cpu[node] + state.coming_cpu[node] < request.cpu
            or state.free_ram[node] + state.coming_ram[node] < request.ram
        ):
            return False
        need = WHOLE_GPU if request.whole else request.each
        return all(state.free_gpu[node, i] + state.coming_gpu[node, i] >= need for i in devices)

    def add(self, made: Reservation, settled: bool) -> None:
        """Put a nomination in force; its claim is already made.

        `settled` says that the pass has come to its deployment; until then those ahead may override it.
        """
        if not settled:
            self._unsettled[made.row] = made.node
        self._by_row[made.row] = made
        self._by_node.setdefault(made.node, {})[made.row] = made

    def drop(self, row: int) -> Reservation:
        """Give its capacity back; the caller says whether capacity has `grown` by that."""
        found = self._by_row.pop(row)
        self._unsettled.pop(row, None)
        on_node = self._by_node[found.node]
        del on_node[row]
        if not on_node:
            del self._by_node[found.node]
        self._state.release(found.claim)
        return found

    def of(self, row: int) -> Reservation | None:
        return self._by_row.get(row)

    def on(self, node: int) -> Iterable[Reservation]:
        return self._by_node.get(node, {}).values()

    def unsettled_nodes(self) -> list[int]:
        """Nodes with nominations whose turn has not come yet."""
        return sorted(set(self._unsettled.values()))

    def all(self) -> Iterable[Reservation]:
        return self._by_row.values()
