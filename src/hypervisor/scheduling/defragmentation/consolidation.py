"""Which running deployments would have to move so that more pending deployments fit.

This is a proposal, not part of `plan()`, as a move costs the work since the last checkpoint. Only evictable
work moves, in whole deployments with one replica, to nodes that accept new work. Every running deployment
keeps running in the result. Capacity that is reserved for a protected head of the queue stays reserved.
Shared clusters are left alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from hypervisor.scheduling.defragmentation.moves import Move
from hypervisor.scheduling.passes.apply_plan import is_steady, mask_of, with_started
from hypervisor.scheduling.passes.cycle import admit_queue
from hypervisor.scheduling.passes.pass_state import PassState
from hypervisor.scheduling.plan_result import Placement
from hypervisor.scheduling.policy import Policy
from hypervisor.scheduling.repacking.budget import StepBudget
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
from hypervisor.scheduling.snapshots.requests import Request
from hypervisor.scheduling.snapshots.snapshot import Shape, Snapshot


@dataclass(frozen=True, slots=True)
class Consolidation:
    """`moves` of running deployments, and `placements` of pending ones once all moves are done.

    The first `in_turn` moves can be done one after the other, each to capacity that is free by then; the
    others exchange their nodes.
    """

    moves: tuple[Move, ...] = ()
    placements: tuple[Placement, ...] = ()
    in_turn: int = 0


def consolidate(
    snapshot: Snapshot, policy: Policy, steps: int, limits: Mapping[int, Shape] | None = None
) -> Consolidation:
    """Few moves that let more pending deployments start, found by a search of `steps` steps.

    Empty if the next pass would place or evict anything, now or after the moves. `limits` are the shapes of
    running deployments whose GPU models or node labels are limited.
    """
    state = _steady_state(snapshot, policy)
    problem = None if state is None else _subproblem(state, limits or {})
    if state is None or problem is None:
        return Consolidation()
    seed = [state.queue.deployment_id(row) for row in problem.pending_rows]
    for _, solver in load_solvers(policy.solver):
        solver.repack_with_few_moves(problem.packing, problem.waiting_items, StepBudget(steps), seed)
    in_turn, exchanging = _in_order(problem)
    moves = _moves(state, problem, [*in_turn, *exchanging])
    found = Consolidation(moves, _placements(state, problem), len(in_turn))
    if not found.placements or not is_steady(_after(state, problem, found), state.policy):
        return Consolidation()
    return found


def _steady_state(snapshot: Snapshot, policy: Policy) -> PassState | None:
    """The state after a pass that changes nothing; None if it changes something."""
    if snapshot.quotas or not len(snapshot.pending):
        return None
    state = PassState(snapshot, replace(policy, optimizer_steps=0))
    admit_queue(state)
    return None if state.placements or state.evictions else state


def _subproblem(state: PassState, limits: Mapping[int, Shape]) -> Subproblem | None:
    rows = waiting_rows(state)
    nodes = nearest_nodes(state, rows, ()) if rows else []
    movable = _movable(state, nodes, limits)
    return build_subproblem(state, nodes, movable, rows) if movable else None


def _movable(state: PassState, nodes: Sequence[int], limits: Mapping[int, Shape]) -> list[Movable]:
    table = state.snapshot.allocations
    chosen = state.candidates.evictable & np.isin(table.node, nodes)
    chosen[list(state.candidates.gangs)] = False
    rows = np.flatnonzero(chosen)
    return [
        Movable(
            int(table.deployment_id[row]),
            _request(state, row, limits),
            int(table.priority[row]),
            int(table.node[row]),
            _devices(int(table.gpu_mask[row])),
            _is_guarded(state, row),
        )
        for row in rows[np.argsort(table.id[rows], kind="stable")].tolist()
    ]


def _request(state: PassState, row: int, limits: Mapping[int, Shape]) -> Request:
    table = state.snapshot.allocations
    gpu = len(_devices(int(table.gpu_mask[row]))) * int(table.gpu_milli_per_device[row])
    plain = Shape(int(table.cpu_milli[row]), int(table.ram_mib[row]), gpu)
    return state.eligibility.request(0, limits.get(int(table.deployment_id[row]), plain))


def _devices(mask: int) -> tuple[int, ...]:
    return tuple(index for index in range(mask.bit_length()) if mask >> index & 1)


def _is_guarded(state: PassState, row: int) -> bool:
    """Whether it may take no more of the head's capacity, because the head could not evict it."""
    head, table = state.head_reservation, state.snapshot.allocations
    if head is None or table.ends_at[row] <= head.latest_start < np.inf:
        return False
    priority = int(table.priority[row])
    evictable = state.policy.preemption and priority < head.priority
    return not evictable and is_guarded_against(state, priority)


def _after(state: PassState, problem: Subproblem, found: Consolidation) -> Snapshot:
    """The snapshot once all moves and placements are made."""
    snapshot, packing = state.snapshot, problem.packing
    table = snapshot.allocations
    node, mask = table.node.copy(), table.gpu_mask.copy()
    row_of = {int(id_): row for row, id_ in enumerate(table.deployment_id)}
    for index, one in enumerate(problem.movable):
        node[row_of[one.deployment_id]] = problem.nodes[packing.bin_of[index]]
        mask[row_of[one.deployment_id]] = mask_of(packing.devices[index])
    moved = replace(snapshot, allocations=replace(table, node=node, gpu_mask=mask))
    return with_started(moved, state.queue, found.placements)


def _placements(state: PassState, problem: Subproblem) -> tuple[Placement, ...]:
    packing, ids = problem.packing, state.snapshot.nodes.id
    return tuple(
        Placement(
            state.queue.deployment_id(row),
            int(ids[problem.nodes[packing.bin_of[index]]]),
            packing.devices[index],
        )
        for index, row in zip(problem.waiting_items, problem.pending_rows, strict=True)
        if packing.bin_of[index] != NO_BIN
    )


def _in_order(problem: Subproblem) -> tuple[list[int], list[int]]:
    """The moved items: those that can move one after the other, in that order, and the rest."""
    packing = problem.packing
    left = [index for index in range(len(problem.movable)) if not packing.is_home(index)]
    target = {index: (packing.bin_of[index], packing.devices[index]) for index in left}
    sequence = packing.at_home()
    done: list[int] = []
    while free := [index for index in left if sequence.relocate(index, *target[index])]:
        done += free
        left = [index for index in left if index not in free]
    return done, left


def _moves(state: PassState, problem: Subproblem, moved: Sequence[int]) -> tuple[Move, ...]:
    packing, ids = problem.packing, state.snapshot.nodes.id
    table, lost = state.snapshot.allocations, state.candidates.lost_work
    work = dict(zip(table.deployment_id.tolist(), lost.tolist(), strict=True))
    return tuple(
        Move(
            one.deployment_id,
            int(ids[one.node]),
            int(ids[problem.nodes[packing.bin_of[index]]]),
            packing.devices[index],
            work[one.deployment_id],
        )
        for index, one in ((index, problem.movable[index]) for index in moved)
    )
