"""How well the free capacity serves the target workload."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hypervisor.kernel.resources import MILLI, WHOLE_GPU, Resources
from hypervisor.scheduling.capacity.feasibility import fits_idle
from hypervisor.scheduling.capacity.working_state import WorkingState
from hypervisor.scheduling.policy import Policy
from hypervisor.scheduling.scoring.target_workload import target_workload
from hypervisor.scheduling.snapshots.requests import Eligibility, Request
from hypervisor.scheduling.snapshots.snapshot import Float64, Int64, Shape, Snapshot


@dataclass(frozen=True, slots=True)
class ShapeFragmentation:
    """The value of the free capacity for one typical request.

    `weight` is its share of all requests. `fits_now` is how many such requests would fit at once, without
    others. `unusable_gpu_milli` is the idle GPU that it could not use.
    """

    shape: Shape
    weight: float
    fits_now: int
    unusable_gpu_milli: int


@dataclass(frozen=True, slots=True)
class NodeFragmentation:
    """One node: its free capacity, with whole free devices as `free.gpu_milli`, and F as in the FGD paper.

    `expected_unusable` is the idle milli-GPU that a typical request could not use there, on average.
    """

    node_id: int
    free: Resources
    idle_gpu_milli: int
    expected_unusable: float


@dataclass(frozen=True, slots=True)
class Fragmentation:
    """The whole cluster: shapes by weight, nodes by id."""

    shapes: tuple[ShapeFragmentation, ...]
    nodes: tuple[NodeFragmentation, ...]


def fragmentation(snapshot: Snapshot, policy: Policy) -> Fragmentation:
    """Measure the free capacity. Nominated capacity is not free."""
    state, eligibility = idle_capacity(snapshot)
    idle: Int64 = np.maximum(state.idle_gpu, 0).sum(axis=1)
    expected: Float64 = np.zeros(len(idle))
    shapes = []
    for index, (shape, weight) in enumerate(target_workload(snapshot, policy)):
        request = eligibility.request(index, shape)
        unusable = idle - _usable(state, request)
        expected += weight * unusable
        shapes.append(
            ShapeFragmentation(shape, weight, int(_count(state, request).sum()), int(unusable.sum()))
        )
    nodes = tuple(
        NodeFragmentation(
            int(id_),
            Resources(max(0, int(cpu)), max(0, int(ram)), int(full) * MILLI),
            int(left),
            round(float(lost), 3),
        )
        for id_, cpu, ram, full, left, lost in zip(
            snapshot.nodes.id, state.idle_cpu, state.idle_ram, state.whole_gpus, idle, expected, strict=True
        )
    )
    return Fragmentation(tuple(shapes), nodes)


def idle_capacity(snapshot: Snapshot) -> tuple[WorkingState, Eligibility]:
    """The idle capacity without what nominations claim."""
    state, eligibility = WorkingState(snapshot), Eligibility(snapshot.nodes)
    rows = {int(id_): row for row, id_ in enumerate(snapshot.nodes.id)}
    shape_of = dict(
        zip(snapshot.pending.deployment_id.tolist(), snapshot.pending.shape.tolist(), strict=True)
    )
    for kept in snapshot.nominations:
        index, node = shape_of.get(kept.deployment_id), rows.get(kept.node_id)
        if index is not None and node is not None:
            request = eligibility.request(index, snapshot.shapes[index])
            state.claim(node, request, kept.gpu_indices)
    return state, eligibility


def _usable(state: WorkingState, request: Request) -> Int64:
    """Idle milli-GPU per node that such requests could use; 0 for requests without GPUs."""
    if not request.device_count:
        return np.zeros(len(state.nodes), np.int64)
    if request.whole_devices:
        usable: Int64 = state.whole_gpus * WHOLE_GPU
    else:
        usable = np.where(state.idle_gpu >= request.milli_per_device, state.idle_gpu, 0).sum(axis=1)
    return np.where(fits_idle(state, request), usable, 0)


def _count(state: WorkingState, request: Request) -> Int64:
    """How many such requests each node could take at once."""
    counts = [np.full(len(state.nodes), np.iinfo(np.int64).max)]
    if request.cpu:
        counts.append(state.idle_cpu // request.cpu)
    if request.ram:
        counts.append(state.idle_ram // request.ram)
    if request.whole_devices:
        counts.append(state.whole_gpus // request.device_count)
    elif request.device_count:
        counts.append((np.maximum(state.idle_gpu, 0) // request.milli_per_device).sum(axis=1))
    least: Int64 = np.minimum.reduce(counts)
    return np.where(fits_idle(state, request) & (least < np.iinfo(np.int64).max), least, 0)
