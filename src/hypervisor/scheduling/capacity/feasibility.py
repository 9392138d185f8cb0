"""Whether a request fits: over many nodes as arrays, and on one node by device."""

from __future__ import annotations

from collections.abc import Sequence

from hypervisor.kernel.resources import WHOLE_GPU
from hypervisor.scheduling.capacity.working_state import WorkingState
from hypervisor.scheduling.snapshots.requests import Request
from hypervisor.scheduling.snapshots.snapshot import Bool, Int64, NodeTable


def fits_idle(state: WorkingState, request: Request, nodes: Int64 | None = None) -> Bool:
    """Which of the nodes (all of them without `nodes`) can start the request now."""
    chosen: Int64 | slice = slice(None) if nodes is None else nodes
    fits: Bool = state.idle_cpu[chosen] >= request.cpu
    fits &= state.idle_ram[chosen] >= request.ram
    if request.whole:
        fits &= state.whole_gpus[chosen] >= request.devices
    elif request.devices:
        fits &= state.largest_fraction[chosen] >= request.each
    if not request.everywhere:
        fits &= request.eligible[chosen]
    return fits


def fits_on_node(state: WorkingState, request: Request, node: int) -> bool:
    """Whether one node can start the request now."""
    return bool(
        state.idle_cpu[node] >= request.cpu
        and state.idle_ram[node] >= request.ram
        and (
            state.whole_gpus[node] >= request.devices
            if request.whole
            else state.largest_fraction[node] >= request.each
        )
        and request.eligible[node]
    )


def fits_after_release(state: WorkingState, request: Request) -> Bool:
    """Which nodes can start the request once everything that is releasing has gone."""
    fits: Bool = state.idle_cpu + state.releasing_cpu >= request.cpu
    fits &= state.idle_ram + state.releasing_ram >= request.ram
    if request.whole:
        fits &= state.later_whole_gpus >= request.devices
    elif request.devices:
        fits &= state.later_largest_fraction >= request.each
    return fits & request.eligible


def fits_in_rooms(request: Request, eligible: Bool, cpu: Int64, ram: Int64, gpu: Int64) -> Bool:
    """The same for any amounts of room: `cpu` and `ram` per node, `gpu` per node and device."""
    fits: Bool = eligible & (cpu >= request.cpu) & (ram >= request.ram)
    if request.whole:
        fits &= (gpu == WHOLE_GPU).sum(axis=1) >= request.devices
    elif request.devices:
        fits &= gpu.max(axis=1) >= request.each
    return fits


def fits_empty_nodes(nodes: NodeTable, request: Request, eligible: Bool) -> Bool:
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


def fits_in_room(request: Request, cpu: int, ram: int, gpu: Sequence[int]) -> bool:
    """Whether the request fits into this room on one node."""
    if cpu < request.cpu or ram < request.ram:
        return False
    return not request.devices or len(usable_devices(request, gpu)) >= request.devices
