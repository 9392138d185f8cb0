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
from hypervisor.scheduling.passes.head_of_queue import renew_head_reservation
from hypervisor.scheduling.passes.pass_state import PassState
from hypervisor.scheduling.passes.transitions import on_capacity_freed
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


def optimize_placements(state: PassState, observer: SearchObserver) -> None:
    """Change the placements of a pass so that more is placed, if a bounded search finds how.

    Raises SolverNotInstalled.
    """
    steps = state.policy.optimizer_steps
    if not steps or not state.placements or state.snapshot.quotas:
        return
    ground = _ground(state)
    if ground is None:
        return
    most = min(steps, _STEPS_A_PAIR * len(ground.movable) ** 2)
    for stage, solver in load_solvers(state.policy.solver):
        budget = StepBudget(most)
        observer.stage_started()
        solver.repack(ground.packing, ground.waiting_items, budget, seed_of(state, ground))
        observer.stage_ended(stage, most - budget.remaining)
    at = ground.packing.bin_of
    if any(at[index] != NO_BIN for index in ground.waiting_items):
        decided = _placements(state, ground)
        if is_steady(_after(state, decided), state.policy):
            _apply(state, ground, decided)


def seed_of(state: PassState, ground: Subproblem) -> list[int]:
    """The same for the same snapshot: the ids of those that wait."""
    return [state.queue.deployment_id(row) for row in ground.pending_rows]


def _ground(state: PassState) -> Subproblem | None:
    rows = waiting_rows(state)
    if not rows:
        return None
    nodes = nearest_nodes(state, rows, _closed(state))
    movable = _movable(state, nodes)
    return build_subproblem(state, nodes, movable, rows) if movable else None


def _closed(state: PassState) -> set[int]:
    """Nodes on which somebody gives way in this pass, or for which somebody is nominated."""
    row_of = {int(id_): row for row, id_ in enumerate(state.snapshot.nodes.id)}
    closed = {row_of[one.node_id] for one in state.evictions}
    return closed | {held.node for held in state.nominations.all()}


def _movable(state: PassState, nodes: Sequence[int]) -> list[Movable]:
    ids = state.snapshot.nodes.id
    row_of = {int(ids[node]): node for node in nodes}
    nominated = {one.deployment_id for one in state.snapshot.nominations}
    here = [one for one in state.placements if one.node_id in row_of and one.deployment_id not in nominated]
    rows = state.queue.rows_of({one.deployment_id for one in here})
    queue = state.queue
    return [
        Movable(
            one.deployment_id,
            state.request_for(queue.shape(row)),
            queue.priority(row),
            row_of[one.node_id],
            one.gpu_indices,
            state.must_respect_head(row) and is_guarded_against(state, queue.priority(row)),
        )
        for one in here
        if not queue.is_gang(row := rows[one.deployment_id])
    ]


def _placements(state: PassState, ground: Subproblem) -> list[Placement]:
    """All placements of the pass as they are now, in queue order."""
    packing, ids, queue = ground.packing, state.snapshot.nodes.id, state.queue
    deployment_ids = [one.deployment_id for one in ground.movable]
    deployment_ids += [queue.deployment_id(row) for row in ground.pending_rows]
    changed = {
        deployment_id: Placement(deployment_id, int(ids[ground.nodes[bin_]]), packing.devices[index])
        for index, deployment_id in enumerate(deployment_ids)
        if (bin_ := packing.bin_of[index]) != NO_BIN
    }
    kept = [one for one in state.placements if one.deployment_id not in changed]
    decided = [*kept, *changed.values()]
    rows = queue.rows_of({one.deployment_id for one in decided})
    rank = np.empty(len(queue.order), np.int64)
    rank[queue.order] = np.arange(len(rank))
    return sorted(decided, key=lambda one: (int(rank[rows[one.deployment_id]]), one.replica))


def _after(state: PassState, decided: Sequence[Placement]) -> Snapshot:
    """The snapshot once everything of this pass has come true."""
    table = state.snapshot.allocations
    evicted = np.isin(table.id, [one.allocation_id for one in state.evictions])
    going = replace(
        state.snapshot,
        allocations=replace(table, releasing=table.releasing | evicted),
        nominations=state.nominations_for_plan(),
    )
    return with_started(going, state.queue, decided)


def _apply(state: PassState, ground: Subproblem, decided: list[Placement]) -> None:
    """Make the placements those of the pass, and let the head hold what is left to hold."""
    capacity, packing = state.capacity, ground.packing
    for one in ground.movable:
        capacity.unplace(one.node, one.request, one.devices)
    for index, item in enumerate(packing.items):
        if packing.bin_of[index] != NO_BIN:
            capacity.place(ground.nodes[packing.bin_of[index]], item.request, packing.devices[index])
    for index, row in zip(ground.waiting_items, ground.pending_rows, strict=True):
        state.placed[row] = packing.bin_of[index] != NO_BIN
    state.placements[:] = decided
    on_capacity_freed(state)
    renew_head_reservation(state)
