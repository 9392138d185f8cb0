"""Placing more deployments by rearranging the placements of the current pass.

That costs nothing, because none of them has started. Running work, nominations, evictions and gangs stay as
the pass decided; nodes with evictions or nominations are left alone. Every deployment that the pass placed
stays placed. The result is kept only if the next pass would change nothing. Shared clusters are not
rearranged.
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
"""A small problem needs no larger budget: it would only repeat the same steps."""


def optimize_placements(state: PassState, observer: SearchObserver) -> None:
    """Change the placements of a pass so that more deployments are placed, if a bounded search finds a way.

    Raises SolverNotInstalled.
    """
    steps = state.policy.optimizer_steps
    if not steps or not state.placements or state.snapshot.quotas:
        return
    problem = _subproblem(state)
    if problem is None:
        return
    most = min(steps, _STEPS_A_PAIR * len(problem.movable) ** 2)
    for stage, solver in load_solvers(state.policy.solver):
        budget = StepBudget(most)
        observer.stage_started()
        solver.repack(problem.packing, problem.waiting_items, budget, seed_of(state, problem))
        observer.stage_ended(stage, most - budget.remaining)
    at = problem.packing.bin_of
    if any(at[index] != NO_BIN for index in problem.waiting_items):
        decided = _placements(state, problem)
        if is_steady(_after(state, decided), state.policy):
            _apply(state, problem, decided)


def seed_of(state: PassState, problem: Subproblem) -> list[int]:
    """A seed that depends on the snapshot alone: the ids of the waiting deployments."""
    return [state.queue.deployment_id(row) for row in problem.pending_rows]


def _subproblem(state: PassState) -> Subproblem | None:
    rows = waiting_rows(state)
    if not rows:
        return None
    nodes = nearest_nodes(state, rows, _closed(state))
    movable = _movable(state, nodes)
    return build_subproblem(state, nodes, movable, rows) if movable else None


def _closed(state: PassState) -> set[int]:
    """Nodes with evictions of this pass or with nominations."""
    row_of = {int(id_): row for row, id_ in enumerate(state.snapshot.nodes.id)}
    closed = {row_of[one.node_id] for one in state.evictions}
    return closed | {held.node for held in state.nominations.all()}


def _movable(state: PassState, nodes: Sequence[int]) -> list[Movable]:
    ids = state.snapshot.nodes.id
    row_of = {int(ids[node]): node for node in nodes}
    nominated = {one.deployment_id for one in state.snapshot.nominations}
    placements = [
        one for one in state.placements if one.node_id in row_of and one.deployment_id not in nominated
    ]
    rows = state.queue.rows_of({one.deployment_id for one in placements})
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
        for one in placements
        if not queue.is_gang(row := rows[one.deployment_id])
    ]


def _placements(state: PassState, problem: Subproblem) -> list[Placement]:
    """All placements of the pass after the search, in queue order."""
    packing, ids, queue = problem.packing, state.snapshot.nodes.id, state.queue
    deployment_ids = [one.deployment_id for one in problem.movable]
    deployment_ids += [queue.deployment_id(row) for row in problem.pending_rows]
    changed = {
        deployment_id: Placement(deployment_id, int(ids[problem.nodes[bin_]]), packing.devices[index])
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
    """The snapshot after this plan was applied."""
    table = state.snapshot.allocations
    evicted = np.isin(table.id, [one.allocation_id for one in state.evictions])
    after_evictions = replace(
        state.snapshot,
        allocations=replace(table, releasing=table.releasing | evicted),
        nominations=state.nominations_for_plan(),
    )
    return with_started(after_evictions, state.queue, decided)


def _apply(state: PassState, problem: Subproblem, decided: list[Placement]) -> None:
    """Replace the placements of the pass, and renew the reservation of the head."""
    capacity, packing = state.capacity, problem.packing
    for one in problem.movable:
        capacity.unplace(one.node, one.request, one.devices)
    for index, item in enumerate(packing.items):
        if packing.bin_of[index] != NO_BIN:
            capacity.place(problem.nodes[packing.bin_of[index]], item.request, packing.devices[index])
    for index, row in zip(problem.waiting_items, problem.pending_rows, strict=True):
        state.placed[row] = packing.bin_of[index] != NO_BIN
    state.placements[:] = decided
    on_capacity_freed(state)
    renew_head_reservation(state)
