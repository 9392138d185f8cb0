"""The reservation of the blocked head of the queue, and what others may still take of it.

The head is the highest-ranked deployment that some node could run, but that neither fits nor can be admitted
by evictions. Deployments behind it respect its reservation (EASY backfill, Lifka 1995, as in Slurm).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf

from hypervisor.kernel.resources import WHOLE_GPU
from hypervisor.scheduling.capacity.shortfall import gpu_shortfall
from hypervisor.scheduling.snapshots.requests import Request


@dataclass(slots=True)
class HeadReservation:
    """The reserved node, and its capacity for the head.

    `latest_start` is when the head can start there at the latest, in seconds since the epoch; +inf if no end
    is known. A gang reserves several nodes: `request` is what its replicas need together on this node, and
    `other_nodes` are the other parts. `is_borrower` says that the head exceeds its guarantee.
    """

    deployment_id: int
    priority: int
    node: int
    request: Request
    cpu: int
    ram: int
    gpu: list[int]
    row: int = -1
    organization: int = -1
    is_borrower: bool = False
    latest_start: float = inf
    other_nodes: dict[int, HeadReservation] = field(default_factory=dict)

    def on_node(self, node: int) -> HeadReservation | None:
        """The part on this node, or None."""
        return self if node == self.node else self.other_nodes.get(node)

    @property
    def nodes(self) -> list[int]:
        """All reserved nodes."""
        return sorted({self.node, *self.other_nodes})

    def allows(self, request: Request, devices: tuple[int, ...]) -> bool:
        """Whether the head's shortfall stays the same after this request takes these devices of the node."""
        if request.cpu and self.cpu - request.cpu < self.request.cpu:
            return False
        if request.ram and self.ram - request.ram < self.request.ram:
            return False
        after = list(self.gpu)
        for device in devices:
            after[device] -= request.milli_per_device
        return gpu_shortfall(self.request, after) <= gpu_shortfall(self.request, self.gpu)

    def allows_any_devices(self, request: Request) -> bool:
        """Whether the head's shortfall of devices stays the same for any choice of devices of the node."""
        if not request.device_count or not self.request.device_count:
            return True
        whole = self.gpu.count(WHOLE_GPU)
        return self.request.whole_devices and (
            not whole or whole - request.device_count >= self.request.device_count
        )

    def consume(self, request: Request, devices: tuple[int, ...]) -> None:
        """Count a start or a nomination on the node that the head cannot evict."""
        self.cpu -= request.cpu
        self.ram -= request.ram
        for device in devices:
            self.gpu[device] -= request.milli_per_device

    def refund(self, request: Request, devices: tuple[int, ...]) -> None:
        """Undo `consume`: such a nomination was withdrawn."""
        self.cpu += request.cpu
        self.ram += request.ram
        for device in devices:
            self.gpu[device] += request.milli_per_device
