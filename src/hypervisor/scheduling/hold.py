"""What the blocked head of the queue holds against those behind it.

The head is the highest-ranked deployment that could run on some node, but neither fits nor could be
admitted by evictions. It holds its nearest node, the one with the least missing once everything that it
may evict is gone. Those behind it may start there if what it misses does not grow, or if it could evict
them at once. A reservation in time (EASY backfill) would replace this rule for work with a known end.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hypervisor.kernel.resources import WHOLE_GPU
from hypervisor.scheduling.potential import Candidates
from hypervisor.scheduling.requests import Request
from hypervisor.scheduling.reservations import Reservations
from hypervisor.scheduling.snapshot import Bool, Float64, Int64
from hypervisor.scheduling.working import WorkingState


@dataclass(slots=True)
class Hold:
    """The held node and the room on it that the head counts on."""

    deployment_id: int
    priority: int
    node: int
    request: Request
    cpu: int
    ram: int
    gpu: list[int]
    organization: int = -1

    def allows(self, request: Request, devices: tuple[int, ...]) -> bool:
        """Whether the head's shortfall stays the same if this request takes these devices of the node."""
        if request.cpu and self.cpu - request.cpu < self.request.cpu:
            return False
        if request.ram and self.ram - request.ram < self.request.ram:
            return False
        after = list(self.gpu)
        for device in devices:
            after[device] -= request.each
        return gpu_shortfall(self.request, after) <= gpu_shortfall(self.request, self.gpu)

    def take(self, request: Request, devices: tuple[int, ...]) -> None:
        """Someone that the head could not evict has started on the node, or has it reserved."""
        self.cpu -= request.cpu
        self.ram -= request.ram
        for device in devices:
            self.gpu[device] -= request.each

    def give(self, request: Request, devices: tuple[int, ...]) -> None:
        """Such a reservation has been given up."""
        self.cpu += request.cpu
        self.ram += request.ram
        for device in devices:
            self.gpu[device] += request.each


def gpu_shortfall(request: Request, gpu: list[int]) -> int:
    """Missing whole devices for whole requests, missing milli-GPU on the best device for fractions."""
    if request.whole:
        return max(0, request.devices - gpu.count(WHOLE_GPU))
    return max(0, request.each - max(gpu)) if request.devices else 0


def hold_for(
    head: tuple[int, int, int],
    request: Request,
    admissible: Bool,
    state: WorkingState,
    candidates: Candidates | None,
    reservations: Reservations,
) -> Hold:
    """The hold of the head (deployment id, priority, rank); `admissible` marks nodes large enough for it.

    `candidates` is None where preemption is off.
    """
    deployment_id, priority, rank = head
    cpu = state.free_cpu + state.coming_cpu
    ram = state.free_ram + state.coming_ram
    gpu = state.free_gpu + state.coming_gpu
    if candidates is not None:
        more_cpu, more_ram, more_gpu = candidates.sums(priority)
        cpu, ram, gpu = cpu + more_cpu, ram + more_ram, gpu + more_gpu
        for held in reservations.all():
            if held.rank > rank and held.yields and held.priority < priority:
                cpu[held.node] += held.request.cpu
                ram[held.node] += held.request.ram
                gpu[held.node, list(held.devices)] += held.request.each
    distance = np.where(admissible, shortfall_distance(request, cpu, ram, _gpu_room(request, gpu)), np.inf)
    node = int(distance.argmin())
    return Hold(deployment_id, priority, node, request, int(cpu[node]), int(ram[node]), gpu[node].tolist())


def shortfall_distance(request: Request, cpu: Int64, ram: Int64, gpu: Int64) -> Float64:
    """How far each node is from fitting: the sum of the missing shares of what is asked for.

    `gpu` is in the request's own terms: free whole devices, or the milli-GPU of the best device.
    """
    distance = np.zeros(len(cpu))
    needs = request.devices if request.whole else request.each
    for need, room in ((request.cpu, cpu), (request.ram, ram), (needs, gpu)):
        if need:
            distance += np.maximum(need - room, 0) / need
    return distance


def _gpu_room(request: Request, gpu: Int64) -> Int64:
    room: Int64 = (gpu == WHOLE_GPU).sum(axis=1) if request.whole else gpu.max(axis=1)
    return room
