"""A cluster simulated forward in virtual time with `plan()`, until one deployment starts."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from hypervisor.scheduling.plan import plan
from hypervisor.scheduling.plan_result import Placement, Plan
from hypervisor.scheduling.policy import Policy
from hypervisor.scheduling.snapshots.builder import SnapshotBuilder
from hypervisor.scheduling.snapshots.columns import joined, rows_where, with_shape
from hypervisor.scheduling.snapshots.snapshot import Shape, Snapshot

MOST_PASSES = 200
_FEWEST_PASSES = 6
_WORK = 500_000
"""The maximum number of rows for all passes together. A large cluster takes fewer, coarser steps."""

RemainingTime = Callable[[int, float, float], float]
"""(deployment id, seconds that it has run, seconds left by its limit) -> seconds until its end."""
StopTime = Callable[[int], float]
"""Deployment id -> seconds that its stop takes."""


@dataclass(frozen=True, slots=True)
class PredictedStart:
    """When the deployment starts, +inf if after the simulated time; `after`: what ended just before."""

    at: float
    after: tuple[int, ...]


def simulate_forward(
    snapshot: Snapshot,
    policy: Policy,
    deployment_id: int,
    decided: Plan,
    remaining: RemainingTime,
    stopping: StopTime,
) -> PredictedStart | None:
    """The start of a deployment that waits in `decided`, the plan for the snapshot.

    None if no expected end lets it start. The number of passes is bounded, and the passes do not rearrange
    placements. Deployments behind it in the queue are left out.
    """
    rollout = _Rollout(snapshot, deployment_id, remaining, stopping)
    rollout.apply(decided)
    rollout.drop_behind(decided)
    policy = replace(policy, optimizer_steps=0)
    passes = min(MOST_PASSES, max(_FEWEST_PASSES, _WORK // rollout.rows))
    rollout.coarsen(passes // 2)
    for _ in range(passes):
        if not rollout.advance():
            return None
        decided = plan(rollout.snapshot, policy)
        if any(one.deployment_id == deployment_id for one in decided.placements):
            return PredictedStart(rollout.snapshot.now, rollout.ended)
        rollout.apply(decided)
    return PredictedStart(math.inf, ())


class _Rollout:
    """The state at one moment. `ended` are the deployments that ended at this moment."""

    def __init__(
        self, snapshot: Snapshot, deployment_id: int, remaining: RemainingTime, stopping: StopTime
    ) -> None:
        self.snapshot = snapshot
        self.ended: tuple[int, ...] = ()
        self._own = deployment_id
        self._remaining = remaining
        self._stopping = stopping
        self._requeued: set[int] = set()
        self._next_id = -1
        self._ends = {int(id_): self._end_of(row) for row, id_ in enumerate(snapshot.allocations.id)}

    @property
    def rows(self) -> int:
        snapshot = self.snapshot
        return 1 + len(snapshot.nodes) + len(snapshot.allocations) + len(snapshot.pending)

    def apply(self, decided: Plan) -> None:
        """Apply the plan: evicted deployments begin to stop, placed ones run."""
        self._evict([one.allocation_id for one in decided.evictions])
        self.snapshot = replace(self.snapshot, nominations=decided.nominations)
        by_deployment: dict[int, list[Placement]] = defaultdict(list)
        for one in decided.placements:
            by_deployment[one.deployment_id].append(one)
        pending = self.snapshot.pending
        starting = np.isin(pending.deployment_id, list(by_deployment))
        self._run(np.flatnonzero(starting).tolist(), by_deployment)
        self.snapshot = replace(self.snapshot, pending=rows_where(pending, ~starting))

    def drop_behind(self, decided: Plan) -> None:
        """Remove the deployments behind the simulated one from the queue."""
        ahead = []
        for waiting in decided.unplaced:
            ahead.append(waiting.deployment_id)
            if waiting.deployment_id == self._own:
                break
        pending = self.snapshot.pending
        kept = np.isin(pending.deployment_id, ahead)
        nominations = tuple(one for one in self.snapshot.nominations if one.deployment_id in set(ahead))
        self.snapshot = replace(self.snapshot, pending=rows_where(pending, kept), nominations=nominations)

    def coarsen(self, most: int) -> None:
        """Merge the ends into at most `most` times: each end moves to the next of these times."""
        moments = sorted({end for end in self._ends.values() if not math.isinf(end)})
        if len(moments) <= most:
            return
        picked = np.array(moments)[np.linspace(0, len(moments) - 1, most).astype(np.int64)]
        for id_, end in self._ends.items():
            if not math.isinf(end):
                self._ends[id_] = float(picked[np.searchsorted(picked, end)])

    def advance(self) -> bool:
        """Advance to the next end and remove the ended allocations; False if no end is left."""
        table = self.snapshot.allocations
        ends = np.array([self._ends[id_] for id_ in table.id.tolist()])
        at = float(ends.min(initial=math.inf))
        if math.isinf(at):
            return False
        has_ended = ends <= at
        self.ended = tuple(sorted({int(id_) for id_ in table.deployment_id[has_ended]}))
        self._requeue_all(np.flatnonzero(has_ended & np.isin(table.id, list(self._requeued))).tolist())
        self.snapshot = replace(
            self.snapshot, now=max(at, self.snapshot.now), allocations=rows_where(table, ~has_ended)
        )
        return True

    def _end_of(self, row: int) -> float:
        table, now = self.snapshot.allocations, self.snapshot.now
        id_ = int(table.deployment_id[row])
        if table.releasing[row]:
            return now + self._stopping(id_)
        elapsed, limit = now - float(table.started_at[row]), float(table.ends_at[row]) - now
        return now + max(0.0, self._remaining(id_, max(0.0, elapsed), max(0.0, limit)))

    def _evict(self, allocation_ids: list[int]) -> None:
        table = self.snapshot.allocations
        leaving = np.isin(table.id, allocation_ids)
        self.snapshot = replace(
            self.snapshot, allocations=replace(table, releasing=table.releasing | leaving)
        )
        self._requeued.update(allocation_ids)
        for row in np.flatnonzero(leaving).tolist():
            self._ends[int(table.id[row])] = self._end_of(row)

    def _run(self, rows: list[int], placements: Mapping[int, list[Placement]]) -> None:
        """Start all rows in one step, so that the table is copied only once."""
        pending = self.snapshot.pending
        builder, organizations = SnapshotBuilder(self.snapshot.now), list[int]()
        for node_id in {one.node_id for each in placements.values() for one in each}:
            builder.add_node(node_id, cpu_milli=0, ram_mib=0)
        for row in rows:
            assignments = placements[int(pending.deployment_id[row])]
            self._add(builder, row, assignments)
            organizations += [int(pending.organization[row])] * len(assignments)
        built, snapshot = builder.build(), self.snapshot
        node = np.searchsorted(snapshot.nodes.id, built.nodes.id[built.allocations.node]).astype(np.int32)
        added = replace(built.allocations, node=node, organization=np.array(organizations, np.int32))
        self.snapshot = replace(snapshot, allocations=joined(snapshot.allocations, added))

    def _add(self, builder: SnapshotBuilder, row: int, assignments: list[Placement]) -> None:
        snapshot, pending = self.snapshot, self.snapshot.pending
        shape = snapshot.shapes[int(pending.shape[row])]
        id_, limit = int(pending.deployment_id[row]), float(pending.max_runtime[row])
        end = snapshot.now + self._remaining(id_, 0.0, limit)
        for one in assignments:
            builder.add_allocation(
                self._next_id,
                deployment_id=id_,
                node_id=one.node_id,
                cpu_milli=shape.cpu_milli,
                ram_mib=shape.ram_mib,
                gpu_indices=one.gpu_indices,
                gpu_each=shape.gpu_milli_per_device,
                priority=int(pending.priority[row]),
                preemptible=bool(pending.preemptible[row]),
                started_at=snapshot.now,
                protected_until=math.inf if pending.protected[row] else -math.inf,
                ends_at=snapshot.now + limit,
            )
            self._ends[self._next_id] = end
            self._next_id -= 1

    def _requeue_all(self, rows: list[int]) -> None:
        """Queue stopped victims again, ahead of other deployments of their priority."""
        by_deployment: dict[int, list[int]] = defaultdict(list)
        for row in rows:
            by_deployment[int(self.snapshot.allocations.deployment_id[row])].append(row)
        for id_, own in by_deployment.items():
            self._requeue(id_, own)

    def _requeue(self, deployment_id: int, rows: list[int]) -> None:
        table, first = self.snapshot.allocations, rows[0]
        devices = int(np.bitwise_count(table.gpu_mask[first]))
        shape = Shape(
            int(table.cpu_milli[first]),
            int(table.ram_mib[first]),
            devices * int(table.gpu_milli_per_device[first]),
        )
        snapshot, index = with_shape(self.snapshot, shape)
        builder = SnapshotBuilder(snapshot.now).add_pending(
            deployment_id,
            shape,
            priority=int(table.priority[first]),
            created_at=0.0,
            preemptible=bool(table.preemptible[first]),
            replicas=len(rows),
            max_runtime=float(table.ends_at[first] - table.started_at[first]),
            eligible_since=snapshot.now,
        )
        row = replace(
            builder.build().pending,
            shape=np.array([index], np.int32),
            organization=table.organization[[first]],
        )
        self.snapshot = replace(snapshot, pending=joined(snapshot.pending, row))
