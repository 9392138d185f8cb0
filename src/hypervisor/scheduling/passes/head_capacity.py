"""The capacity available to the head of the queue after releasing work and all that it may evict."""

from __future__ import annotations

from hypervisor.scheduling.passes.pass_state import PassState
from hypervisor.scheduling.queueing.queue import QueueEntry
from hypervisor.scheduling.snapshots.snapshot import Bool, Int64

CapacityArrays = tuple[Int64, Int64, Int64]
"""CPU and RAM per node, milli-GPU per node and device."""


def head_capacity(state: PassState, entry: QueueEntry) -> tuple[CapacityArrays, Bool]:
    """The capacity for this head, and a mask of the allocation rows that stay."""
    capacity, candidates = state.capacity, state.candidates
    priority = state.queue.priority(entry.row)
    cpu = capacity.idle_cpu + capacity.releasing_cpu
    ram = capacity.idle_ram + capacity.releasing_ram
    gpu = capacity.idle_gpu + capacity.releasing_gpu
    staying = ~candidates.evicting
    if state.policy.preemption:
        more_cpu, more_ram, more_gpu = candidates.freed_by(priority)
        cpu, ram, gpu = cpu + more_cpu, ram + more_ram, gpu + more_gpu
        staying &= ~candidates.lower_than(priority)
        for held in state.nominations.all():
            if held.rank > entry.rank and held.evictable_on_start and held.priority < priority:
                cpu[held.node] += held.request.cpu
                ram[held.node] += held.request.ram
                gpu[held.node, list(held.devices)] += held.request.milli_per_device
    return (cpu, ram, gpu), staying


def capacity_at(state: PassState, staying: Bool, available: CapacityArrays, at: float) -> CapacityArrays:
    """The capacity after every known end up to `at` (seconds since the epoch)."""
    table = state.candidates.table
    cpu, ram, gpu = state.capacity.usage_of(table, staying & (table.ends_at <= at))
    return available[0] + cpu, available[1] + ram, available[2] + gpu
