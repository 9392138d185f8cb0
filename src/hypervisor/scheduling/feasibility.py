"""Whether a request fits: over many nodes as arrays, and on one node by device."""

from __future__ import annotations

from collections.abc import Sequence

from hypervisor.kernel.resources import WHOLE_GPU
from hypervisor.scheduling.requests import Request
from hypervisor.scheduling.snapshot import Bool, Int64, NodeTable
from hypervisor.scheduling.working import WorkingState


def fits_free(state: WorkingState, request: Request, nodes: Int64 | slice) -> Bool:
    """Which of the nodes can start the request now."""
    fits = (
        request.eligible[nodes]
        & (state.free_cpu[nodes] >= request.cpu)
        & (state.free_ram[nodes] >= request.ram)
    )
    if request.whole:
        fits &= state.full[nodes] >= request.devices
    elif request.devices:
        fits &= state.widest[nodes] >= request.each
    return fits


def fits_room(request: Request, eligible: Bool, cpu: Int64, ram: Int64, gpu: Int64) -> Bool:
    """The same for any amounts of room: `cpu` and `ram` per node, `gpu` per node and device."""
    fits: Bool = eligible & (cpu >= request.cpu) & (ram >= request.ram)
    if request.whole:
        fits &= (gpu == WHOLE_GPU).sum(axis=1) >= request.devices
    elif request.devices:
        fits &= gpu.max(axis=1) >= request.each
    return fits


def fits_empty(nodes: NodeTable, request: Request, eligible: Bool) -> Bool:
    """Which of the eligible nodes could take the request if nothing else ran there."""
    return (
        eligible
        & (nodes.cpu_milli >= request.cpu)
        & (nodes.ram_mib >= request.ram)
        & (nodes.gpu_count >= request.devices)
    )


def usable_devices(request: Request, gpu: Sequence[int]) -> list[int]:
    """Indices of the devices of one node that the request could use, given the milli-GPU free on each."""
    if request.whole:
        return [index for index, free in enumerate(gpu) if free == WHOLE_GPU]
    return [index for index, free in enumerate(gpu) if free >= request.each]


def fits_node(request: Request, cpu: int, ram: int, gpu: Sequence[int]) -> bool:
    """Whether the request fits into this room on one node."""
    if cpu < request.cpu or ram < request.ram:
        return False
    return not request.devices or len(usable_devices(request, gpu)) >= request.devices
