"""More of what waits is placed by putting elsewhere what this very pass has placed.

That costs nobody anything: nothing of it has started. What runs, what is nominated and what is evicted stays
as the pass decided, and so do gangs; nodes on which somebody gives way are left alone. Whoever the pass
places stays placed. The outcome stands only if the next pass would find nothing to add to it or to take
from it. Where organizations share the cluster, nothing is rearranged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from hypervisor.scheduling.passes.apply_plan import is_steady, with_started
from hypervisor.scheduling.passes.pass_state import PassState
from hypervisor.scheduling.plan_result import Placement
from hypervisor.scheduling.repacking.budget import SearchObserver, StepBudget
from hypervisor.scheduling.repacking.packing import NO_BIN
from hypervisor.scheduling.repacking.solvers import load_solvers
from hypervisor.scheduling.repacking.subproblem import (
    Movable,
    Subproblem,
    build_subproblem,
    is_guarded_against,
    nearest_nodes,
    waiting_rows,
)
from hypervisor.scheduling.snapshots.snapshot import Snapshot

_STEPS_A_PAIR = 1_000
"""Of a small problem the whole budget would only see the same again."""


def optimize_placements(admission: PassState, watch: SearchObserver) -> None:
    """Change the placements of a pass so that more is placed, if a bounded search finds how.

    Raises PackerMissing.
    """
    steps = admission.policy.optimizer_steps
    if not steps or not admission.placements or admission.snapshot.quotas:
        return
    ground = _ground(admission)
    if ground is None:
        return
    most = min(steps, _STEPS_A_PAIR * len(ground.movable) ** 2)
    for stage, packer in load_solvers(admission.policy.solver):
        budget = StepBudget(most)
        watch.stage_started()
        packer.repack(ground.packing, ground.waiting_items, budget, seed_of(admission, ground))
        watch.stage_ended(stage, most - budget.remaining)
    at = ground.packing.bin_of
    if any(at[index] != NO_BIN for index in ground.waiting_items):
        decided = _placements(admission, ground)
        if is_steady(_after(admission, decided), admission.policy):
            _apply(admission, ground, decided)


def seed_of(admission: PassState, ground: Subproblem) -> list[int]:
    """The same for the same snapshot: the ids of those that wait."""
    return [admission.queue.deployment_id(row) for row in ground.pending_rows]


def _ground(admission: PassState) -> Subproblem | None:
    rows = waiting_rows(admission)
    if not rows:
        return None
    nodes = nearest_nodes(admission, rows, _closed(admission))
    movable = _movable(admission, nodes)
    return build_subproblem(admission, nodes, movable, rows) if movable else None


def _closed(admission: PassState) -> set[int]:
    """Nodes on which somebody gives way in this pass, or for which somebody is nominated."""
    row_of = {int(id_): row for row, id_ in enumerate(admission.snapshot.nodes.id)}
    closed = {row_of[one.node_id] for one in admission.evictions}
    return closed | {held.node for held in admission.nominations.all()}


def _movable(admission: PassState, nodes: Sequence[int]) -> list[Movable]:
    ids = admission.snapshot.nodes.id
    row_of = {int(ids[node]): node for node in nodes}
    nominated = {one.deployment_id for one in admission.snapshot.nominations}
    here = [
        one for one in admission.placements if one.node_id in row_of and one.deployment_id not in nominated
    ]
    rows = admission.queue.rows_of({one.deployment_id for one in here})
    queue = admission.queue
    return [
        Movable(
            one.deployment_id,
            admission.request_for(queue.shape(row)),
            queue.priority(row),
            row_of[one.node_id],
            one.gpu_indices,
            admission.must_respect_head(row) and is_guarded_against(admission, queue.priority(row)),
        )
        for one in here
        if not queue.is_gang(row := rows[one.deployment_id])
    ]


def _placements(admission: PassState, ground: Subproblem) -> list[Placement]:
    """All placements of the pass as they are now, in queue order."""
    packing, ids, queue = ground.packing, admission.snapshot.nodes.id, admission.queue
    deployment_ids = [one.deployment_id for one in ground.movable]
    deployment_ids += [queue.deployment_id(row) for row in ground.pending_rows]
    changed = {
        deployment_id: Placement(deployment_id, int(ids[ground.nodes[bin_]]), packing.devices[index])
        for index, deployment_id in enumerate(deployment_ids)
        if (bin_ := packing.bin_of[index]) != NO_BIN
    }
    kept = [one for one in admission.placements if one.deployment_id not in changed]
    decided = [*kept, *changed.values()]
    rows = queue.rows_of({one.deployment_id for one in decided})
    rank = np.empty(len(queue.order), np.int64)
    rank[queue.order] = np.arange(len(rank))
    return sorted(decided, key=lambda one: (int(rank[rows[one.deployment_id]]), one.replica))


def _after(admission: PassState, decided: Sequence[Placement]) -> Snapshot:
    """The snapshot once everything of this pass has come true."""
    table = admission.snapshot.allocations
    evicted = np.isin(table.id, [one.allocation_id for one in admission.evictions])
    going = replace(
        admission.snapshot,
        allocations=replace(table, releasing=table.releasing | evicted),
        nominations=admission.nominations_for_plan(),
    )
    return with_started(going, admission.queue, decided)


def _apply(admission: PassState, ground: Subproblem, decided: list[Placement]) -> None:
    """Make the placements those of the pass, and let the head hold what is left to hold."""
    state, packing = admission.capacity, ground.packing
    for one in ground.movable:
        state.unplace(one.node, one.request, one.devices)
    for index, item in enumerate(packing.items):
        if packing.bin_of[index] != NO_BIN:
            state.place(ground.nodes[packing.bin_of[index]], item.request, packing.devices[index])
    for index, row in zip(ground.waiting_items, ground.pending_rows, strict=True):
        admission.placed[row] = packing.bin_of[index] != NO_BIN
    admission.placements[:] = decided
    admission.on_capacity_freed()
    admission.renew_head_reservation()
