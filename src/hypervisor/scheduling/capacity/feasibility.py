"""Whether a request fits: on many nodes at once, and on one node by device."""

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
    if request.whole_devices:
        fits &= state.whole_gpus[chosen] >= request.device_count
    elif request.device_count:
        fits &= state.largest_fraction[chosen] >= request.milli_per_device
    if not request.eligible_everywhere:
        fits &= request.eligible[chosen]
    return fits


def fits_on_node(state: WorkingState, request: Request, node: int) -> bool:
    """Whether one node can start the request now."""
    return bool(
        state.idle_cpu[node] >= request.cpu
        and state.idle_ram[node] >= request.ram
        and (
            state.whole_gpus[node] >= request.device_count
            if request.whole_devices
            else state.largest_fraction[node] >= request.milli_per_device
        )
        and request.eligible[node]
    )


def fits_after_release(state: WorkingState, request: Request) -> Bool:
    """Which nodes can start the request once all releasing allocations have ended."""
    fits: Bool = state.idle_cpu + state.releasing_cpu >= request.cpu
    fits &= state.idle_ram + state.releasing_ram >= request.ram
    if request.whole_devices:
        fits &= state.later_whole_gpus >= request.device_count
    elif request.device_count:
        fits &= state.later_largest_fraction >= request.milli_per_device
    return fits & request.eligible


def fits_capacity_arrays(request: Request, eligible: Bool, cpu: Int64, ram: Int64, gpu: Int64) -> Bool:
    """Which nodes could start the request with this capacity; `gpu` is per node and device."""
    fits: Bool = eligible & (cpu >= request.cpu) & (ram >= request.ram)
    if request.whole_devices:
        fits &= (gpu == WHOLE_GPU).sum(axis=1) >= request.device_count
    elif request.device_count:
        fits &= gpu.max(axis=1) >= request.milli_per_device
    return fits


def fits_empty_nodes(nodes: NodeTable, request: Request, eligible: Bool) -> Bool:
    """Which of the eligible nodes could take the request if nothing else ran there."""
    return (
        eligible
        & (nodes.cpu_milli >= request.cpu)
        & (nodes.ram_mib >= request.ram)
        & (nodes.gpu_count >= request.device_count)
    )


def usable_devices(request: Request, gpu: Sequence[int]) -> list[int]:
    """The devices of one node that the request could use, given the free milli-GPU of each."""
    if request.whole_devices:
        return [index for index, free in enumerate(gpu) if free == WHOLE_GPU]
    return [index for index, free in enumerate(gpu) if free >= request.milli_per_device]


def fits_capacity(request: Request, cpu: int, ram: int, gpu: Sequence[int]) -> bool:
    """Whether the request fits this capacity of one node."""
    if cpu < request.cpu or ram < request.ram:
        return False
    return not request.device_count or len(usable_devices(request, gpu)) >= request.device_count
