"""Which devices of a node a replica gets."""

from __future__ import annotations

from collections.abc import Sequence

from hypervisor.scheduling.capacity.feasibility import usable_devices
from hypervisor.scheduling.capacity.working_state import WorkingState
from hypervisor.scheduling.passes.pass_state import PassState
from hypervisor.scheduling.preemption.victims import EvictionCandidate
from hypervisor.scheduling.snapshots.requests import Request


def idle_devices(capacity: WorkingState, request: Request, node: int) -> list[int]:
    """The idle devices of the node that the request could use; none if it requests none."""
    return usable_devices(request, capacity.idle_gpu[node].tolist()) if request.device_count else []


def pick_devices(state: PassState, request: Request, node: int, usable: list[int]) -> tuple[int, ...]:
    """The devices to start on: whole ones by their number, a fraction where the score is best."""
    if request.whole_devices or len(usable) < 2:
        return tuple(usable[: request.device_count])
    return (state.scorer.rank_devices(request, node, usable)[0],)


def future_devices(
    capacity: WorkingState, request: Request, node: int, victims: Sequence[EvictionCandidate] = ()
) -> tuple[int, ...]:
    """The devices to nominate: those free once releasing allocations and the victims have ended.

    Whole requests prefer devices that are idle already. A fraction prefers the fullest device.
    """
    if not request.device_count:
        return ()
    idle = capacity.idle_gpu[node].tolist()
    available = (capacity.idle_gpu[node] + capacity.releasing_gpu[node]).tolist()
    for victim in victims:
        for device in victim.devices:
            available[device] += victim.milli_per_device
    usable = usable_devices(request, available)
    usable.sort(key=lambda index: (available[index], -idle[index], index))
    return tuple(sorted(usable[: request.device_count]))
