"""The room that the head of the queue can count on, with everything gone that it may evict."""

from __future__ import annotations

from hypervisor.scheduling.passes.pass_state import PassState
from hypervisor.scheduling.queueing.queue import QueueEntry
from hypervisor.scheduling.snapshots.snapshot import Bool, Int64

RoomArrays = tuple[Int64, Int64, Int64]
"""CPU and RAM per node, milli-GPU per node and device."""


def head_room(state: PassState, entry: QueueEntry) -> tuple[RoomArrays, Bool]:
    """The room for this head, and a mask of the allocation rows that stay."""
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


def room_at(state: PassState, staying: Bool, room: RoomArrays, at: float) -> RoomArrays:
    """The room once every known end up to `at` (seconds since the epoch) has come."""
    table = state.candidates.table
    cpu, ram, gpu = state.capacity.usage_of(table, staying & (table.ends_at <= at))
    return room[0] + cpu, room[1] + ram, room[2] + gpu
