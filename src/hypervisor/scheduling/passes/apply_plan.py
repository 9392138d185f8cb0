"""A cluster after its plan was applied, and whether a pass would change anything in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from hypervisor.scheduling.passes.cycle import admit_queue
from hypervisor.scheduling.passes.pass_state import PassState
from hypervisor.scheduling.plan_result import Placement
from hypervisor.scheduling.policy import Policy
from hypervisor.scheduling.queueing.queue import Queue
from hypervisor.scheduling.snapshots.columns import joined, rows_where
from hypervisor.scheduling.snapshots.snapshot import AllocationTable, Snapshot


def is_steady(snapshot: Snapshot, policy: Policy) -> bool:
    """Whether a pass would place nothing, evict nothing and keep the nominations."""
    state = PassState(snapshot, replace(policy, optimizer_steps=0))
    admit_queue(state)
    same = set(state.nominations_for_plan()) == set(snapshot.nominations)
    return same and not state.placements and not state.evictions


def with_started(snapshot: Snapshot, queue: Queue, placements: Sequence[Placement]) -> Snapshot:
    """The snapshot with these replicas running instead of pending. `queue` is that of the snapshot."""
    rows = queue.rows_of({one.deployment_id for one in placements})
    placed = np.zeros(len(snapshot.pending), np.bool_)
    placed[list(rows.values())] = True
    return replace(
        snapshot,
        allocations=joined(snapshot.allocations, _started(snapshot, placements, rows)),
        pending=rows_where(snapshot.pending, ~placed),
    )


def _started(snapshot: Snapshot, placements: Sequence[Placement], rows: Mapping[int, int]) -> AllocationTable:
    """The allocations that the placements make; `rows` are the pending rows by deployment."""
    pending, count = snapshot.pending, len(placements)
    chosen = np.array([rows[one.deployment_id] for one in placements], np.int64)
    shapes = [snapshot.shapes[shape] for shape in pending.shape[chosen].tolist()]
    node_ids = np.array([one.node_id for one in placements], np.int64)
    now = np.full(count, snapshot.now)
    return AllocationTable(
        id=-1 - np.arange(count, dtype=np.int64),
        deployment_id=pending.deployment_id[chosen],
        node=np.searchsorted(snapshot.nodes.id, node_ids).astype(np.int32),
        cpu_milli=np.array([shape.cpu_milli for shape in shapes], np.int64),
        ram_mib=np.array([shape.ram_mib for shape in shapes], np.int64),
        gpu_milli_per_device=np.array([shape.gpu_milli_per_device for shape in shapes], np.int32),
        gpu_mask=np.array([mask_of(one.gpu_indices) for one in placements], np.uint64),
        priority=pending.priority[chosen],
        preemptible=pending.preemptible[chosen],
        releasing=np.zeros(count, np.bool_),
        started_at=now,
        work_since=now,
        protected_until=np.where(pending.protected[chosen], np.inf, -np.inf),
        organization=pending.organization[chosen],
        ends_at=now + pending.max_runtime[chosen],
    )


def mask_of(devices: Sequence[int]) -> int:
    """The bits of these device indices."""
    return sum(1 << index for index in devices)
