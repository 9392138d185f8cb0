"""What the blocked head of the queue holds against those behind it.

The head is the highest-ranked deployment that could run on some node, but neither fits nor could be
admitted by evictions. Where the ends of what runs are known, it has a reservation in time: the node where it
can start first, and when (EASY backfill, Lifka 1995, as in Slurm). Those behind it may start there if they
end before that by their own maximum runtime, or if they take only what the reservation leaves over. Else it
holds its nearest node, the one with the least missing once everything that it may evict is gone, and those
behind it may start there if what it misses does not grow. Who it could evict at once is never held up.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf

import numpy as np

from hypervisor.kernel.resources import WHOLE_GPU
from hypervisor.scheduling.capacity.feasibility import fits_in_rooms
from hypervisor.scheduling.capacity.working_state import WorkingState
from hypervisor.scheduling.preemption.candidates import EvictionCandidates
from hypervisor.scheduling.preemption.nominations import ActiveNominations
from hypervisor.scheduling.snapshots.requests import Request
from hypervisor.scheduling.snapshots.snapshot import AllocationTable, Bool, Float64, Int64

RoomArrays = tuple[Int64, Int64, Int64]
"""CPU and RAM per node, milli-GPU per node and device."""


@dataclass(slots=True)
class HeadReservation:
    """The held node and the room on it that the head counts on.

    `start` is when the head can start there at the latest (seconds since the epoch), +inf where nobody knows.
    A gang holds several nodes: `request` is what its replicas need together on this one, and `also` are the
    other nodes.
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
        """What is held on this node, if anything."""
        return self if node == self.node else self.other_nodes.get(node)

    @property
    def nodes(self) -> list[int]:
        return sorted({self.node, *self.other_nodes})

    def allows(self, request: Request, devices: tuple[int, ...]) -> bool:
        """Whether the head's shortfall stays the same if this request takes these devices of the node."""
        if request.cpu and self.cpu - request.cpu < self.request.cpu:
            return False
        if request.ram and self.ram - request.ram < self.request.ram:
            return False
        after = list(self.gpu)
        for device in devices:
            after[device] -= request.milli_per_device
        return gpu_shortfall(self.request, after) <= gpu_shortfall(self.request, self.gpu)

    def allows_any_devices(self, request: Request) -> bool:
        """Whether it makes no difference to the head's devices which ones of the node this request takes."""
        if not request.device_count or not self.request.device_count:
            return True
        whole = self.gpu.count(WHOLE_GPU)
        return self.request.whole_devices and (
            not whole or whole - request.device_count >= self.request.device_count
        )

    def consume(self, request: Request, devices: tuple[int, ...]) -> None:
        """Someone that the head could not evict has started on the node, or has it reserved."""
        self.cpu -= request.cpu
        self.ram -= request.ram
        for device in devices:
            self.gpu[device] -= request.milli_per_device

    def refund(self, request: Request, devices: tuple[int, ...]) -> None:
        """Such a reservation has been given up."""
        self.cpu += request.cpu
        self.ram += request.ram
        for device in devices:
            self.gpu[device] += request.milli_per_device


def gpu_shortfall(request: Request, gpu: list[int]) -> int:
    """Missing whole devices for whole requests, missing milli-GPU on the best device for fractions.

    Several fractions, those of the replicas of a gang, are counted in fractions that are missing.
    """
    if request.whole_devices:
        return max(0, request.device_count - gpu.count(WHOLE_GPU))
    if request.device_count > 1:
        return max(0, request.device_count - sum(max(0, free) // request.milli_per_device for free in gpu))
    return max(0, request.milli_per_device - max(gpu)) if request.device_count else 0


def reserve_for_head(
    head: tuple[int, int, int],
    request: Request,
    admissible: Bool,
    state: WorkingState,
    candidates: EvictionCandidates,
    reservations: ActiveNominations,
    *,
    now: float,
    preempts: bool,
) -> HeadReservation:
    """The hold of the head (deployment id, priority, rank); `admissible` marks nodes large enough for it."""
    deployment_id, priority, rank = head
    (cpu, ram, gpu), staying = head_room(priority, rank, state, candidates, reservations, preempts=preempts)
    starts = _earliest_starts(request, admissible, state, candidates.table, staying, (cpu, ram, gpu))
    node = int(starts.argmin())
    if starts[node] < inf:
        ended = staying & (candidates.table.ends_at <= starts[node])
        more_cpu, more_ram, more_gpu = state.usage_of(candidates.table, ended)
        cpu, ram, gpu = cpu + more_cpu, ram + more_ram, gpu + more_gpu
    else:
        distance = shortfall_distance(request, cpu, ram, _gpu_room(request, gpu))
        node = int(np.where(admissible, distance, inf).argmin())
    room = int(cpu[node]), int(ram[node]), gpu[node].tolist()
    return HeadReservation(
        deployment_id, priority, node, request, *room, latest_start=max(now, float(starts[node]))
    )


def head_room(
    priority: int,
    rank: int,
    state: WorkingState,
    candidates: EvictionCandidates,
    reservations: ActiveNominations,
    *,
    preempts: bool,
) -> tuple[RoomArrays, Bool]:
    """The room that a head counts on at once, everything gone that it may evict; and which rows stay."""
    cpu = state.idle_cpu + state.releasing_cpu
    ram = state.idle_ram + state.releasing_ram
    gpu = state.idle_gpu + state.releasing_gpu
    staying = ~candidates.evicting
    if preempts:
        more_cpu, more_ram, more_gpu = candidates.freed_by(priority)
        cpu, ram, gpu = cpu + more_cpu, ram + more_ram, gpu + more_gpu
        staying &= ~candidates.lower_than(priority)
        for held in reservations.all():
            if held.rank > rank and held.evictable_on_start and held.priority < priority:
                cpu[held.node] += held.request.cpu
                ram[held.node] += held.request.ram
                gpu[held.node, list(held.devices)] += held.request.milli_per_device
    return (cpu, ram, gpu), staying


def _earliest_starts(
    request: Request,
    admissible: Bool,
    state: WorkingState,
    table: AllocationTable,
    staying: Bool,
    room: RoomArrays,
) -> Float64:
    """Per node when the request fits into `room` and what the ends of `staying` work free; +inf for never.

    A binary search over the known ends, for all nodes at once.
    """
    ends = np.unique(table.ends_at[staying & np.isfinite(table.ends_at)])
    low = np.zeros(len(admissible), np.int64)
    high = np.full(len(admissible), len(ends))
    while (low < high).any():
        middle = np.minimum((low + high) // 2, len(ends) - 1)
        cpu, ram, gpu = state.usage_of(table, staying & (table.ends_at <= ends[middle][table.node]))
        fits = fits_in_rooms(request, admissible, room[0] + cpu, room[1] + ram, room[2] + gpu)
        open_ = low < high
        high = np.where(open_ & fits, middle, high)
        low = np.where(open_ & ~fits, middle + 1, low)
    starts: Float64 = np.append(ends, inf)[high]
    return starts


def shortfall_distance(request: Request, cpu: Int64, ram: Int64, gpu: Int64) -> Float64:
    """How far each node is from fitting: the sum of the missing shares of what is asked for.

    `gpu` is in the request's own terms: free whole devices, or the milli-GPU of the best device.
    """
    distance = np.zeros(len(cpu))
    needs = request.device_count if request.whole_devices else request.milli_per_device
    for need, room in ((request.cpu, cpu), (request.ram, ram), (needs, gpu)):
        if need:
            distance += np.maximum(need - room, 0) / need
    return distance


def _gpu_room(request: Request, gpu: Int64) -> Int64:
    room: Int64 = (gpu == WHOLE_GPU).sum(axis=1) if request.whole_devices else gpu.max(axis=1)
    return room
