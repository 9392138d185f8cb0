"""Why a gang waits: how many of its replicas would fit, and what the next one lacks."""

from __future__ import annotations

import numpy as np

from hypervisor.kernel.resources import MILLI, WHOLE_GPU, Resources
from hypervisor.scheduling.capacity.replicas import replicas_per_node
from hypervisor.scheduling.capacity.shortfall import shortfall_distance
from hypervisor.scheduling.explanation.shared_reasons import visible_owners
from hypervisor.scheduling.passes.pass_state import PassState
from hypervisor.scheduling.plan_result import Reason, ReasonCode
from hypervisor.scheduling.snapshots.requests import Request
from hypervisor.scheduling.snapshots.snapshot import Int64
from hypervisor.scheduling.snapshots.wording import described, gaps, listed


def gang_reason(state: PassState, request: Request, replicas: int, organization: int = -1) -> Reason:
    """The reason for a gang that the empty cluster could take, at the end of a pass."""
    capacity = state.capacity
    idle = (capacity.idle_cpu.copy(), capacity.idle_ram.copy(), capacity.idle_gpu.copy())
    counts = replicas_per_node(request, request.eligible, *idle)
    fitting = int(counts.sum())
    if fitting >= replicas or _unreserved(state, request) >= replicas:
        return _reserved_for_others(state, organization)
    _fill(request, counts, *idle)
    return _incomplete(state, request, replicas, fitting, idle)


def _unreserved(state: PassState, request: Request) -> int:
    """How many replicas would fit without nominations."""
    capacity = state.capacity
    cpu, ram, gpu = capacity.idle_cpu.copy(), capacity.idle_ram.copy(), capacity.idle_gpu.copy()
    for held in state.nominations.all():
        cpu[held.node] += held.claim.idle_cpu
        ram[held.node] += held.claim.idle_ram
        for device, amount in zip(held.devices, held.claim.idle_gpu, strict=True):
            gpu[held.node, device] += amount
    return int(replicas_per_node(request, request.eligible, cpu, ram, gpu).sum())


def _reserved_for_others(state: PassState, organization: int) -> Reason:
    rows = {held.deployment_id: held.row for held in state.nominations.all()}
    if state.head_reservation is not None:
        rows[state.head_reservation.deployment_id] = state.head_reservation.row
    shown = visible_owners(state.quotas, rows, organization)
    return Reason(
        ReasonCode.RESERVED_FOR_ANOTHER,
        f"all replicas would fit, but some of the capacity is reserved for {shown}, which ranks higher",
        suggestion=f"wait until {shown} has started, or raise the priority above its priority",
    )


def _fill(request: Request, counts: Int64, cpu: Int64, ram: Int64, gpu: Int64) -> None:
    """Subtract the use by the fitting replicas; the rest shows what the next replica lacks."""
    for node in np.flatnonzero(counts).tolist():
        count = int(counts[node])
        cpu[node] -= count * request.cpu
        ram[node] -= count * request.ram
        for _ in range(count):
            usable = np.flatnonzero(
                gpu[node] >= (WHOLE_GPU if request.whole_devices else request.milli_per_device)
            )
            tightest = usable[np.argsort(gpu[node][usable], kind="stable")]
            gpu[node, tightest[: request.device_count]] -= request.milli_per_device


def _incomplete(
    state: PassState, request: Request, replicas: int, fitting: int, idle: tuple[Int64, Int64, Int64]
) -> Reason:
    cpu, ram, gpu = idle
    devices = (gpu == WHOLE_GPU).sum(axis=1) if request.whole_devices else gpu.max(axis=1)
    distance = shortfall_distance(request, cpu, ram, devices)
    node = int(np.where(request.eligible, distance, np.inf).argmin())
    name = state.snapshot.nodes.name[node]
    each = MILLI if request.whole_devices else 1
    free = Resources(max(0, int(cpu[node])), max(0, int(ram[node])), max(0, int(devices[node])) * each)
    missing = request.shape.resources.shortfall(free)
    suggestion = f"free {described(missing)} on {name}" + (
        f" and capacity for {replicas - fitting - 1} more" if replicas - fitting > 1 else ""
    )
    if fitting:
        suggestion += f", or request at most {fitting} replica" + ("s" if fitting > 1 else "")
    return Reason(
        ReasonCode.GANG_INCOMPLETE,
        f"fits {fitting} of {replicas} replicas; the next one needs {described(request.shape.resources)}, "
        f"and the nearest node {name} has {listed(gaps(free, missing))}",
        missing,
        name,
        suggestion,
    )
