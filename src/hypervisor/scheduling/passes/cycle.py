"""One scheduling pass, step by step: the numbered comments are the pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hypervisor.scheduling.passes.claims import claim_nominations
from hypervisor.scheduling.passes.fast_path import FastPath
from hypervisor.scheduling.passes.gang_placement import GangPlacement
from hypervisor.scheduling.passes.head_of_queue import reserve_for_head
from hypervisor.scheduling.passes.pass_state import PassState
from hypervisor.scheduling.passes.reprieve import reprieve_victims
from hypervisor.scheduling.passes.single_placement import SinglePlacement
from hypervisor.scheduling.plan_result import Plan, Unplaced


def run_cycle(
    state: PassState,
    optimize: Callable[[PassState], None],
    explain: Callable[[PassState], Sequence[Unplaced]],
) -> Plan:
    """The whole pass. `optimize` and `explain` are steps of layers above this one."""
    # Steps 1 to 6: decide on the queue.
    admit_queue(state)
    # 7. Victims that fit beside everything decided so far are reprieved.
    reprieve_victims(state)
    # 8. If enabled by the policy, placements of this pass are rearranged so that more deployments fit.
    optimize(state)
    # 9. Every deployment that was not placed gets a reason.
    unplaced = explain(state)
    return Plan(
        placements=tuple(state.placements),
        evictions=tuple(state.evictions),
        nominations=state.nominations_for_plan(),
        unplaced=unplaced,
        reprieved=state.reprieved,
    )


def admit_queue(state: PassState) -> None:
    """Steps 1 to 6: place or nominate every pending deployment that can be admitted."""
    # 1. Nominations of earlier passes claim their capacity.
    claim_nominations(state)
    fast_path, single, gang = FastPath(state), SinglePlacement(state), GangPlacement(state)
    # 2. Deployments get their turns in queue order: priority, fair share and age, creation, id.
    for rank, row in state.turns():
        if fast_path.is_inadmissible(row):
            state.iterator.mark_inadmissible(row)
        elif not fast_path.try_place(row):
            _decide(state, gang if state.queue.is_gang(row) else single, gang, row, rank)


def _decide(
    state: PassState,
    placement: SinglePlacement | GangPlacement,
    gang: GangPlacement,
    row: int,
    rank: int,
) -> None:
    nomination = state.nominations.first_of(row)
    if nomination is not None and placement.resolve(nomination):
        return
    entry = state.entry(row, rank, nomination)
    if not state.quotas.over_limit(row).is_zero:
        # Lower work of its own organization may be evicted for it. It never becomes the head.
        if not gang.preempt(entry):
            state.iterator.mark_inadmissible(row)
        return
    if (
        # 3. A deployment that fits idle capacity is placed on the node with the best score.
        placement.place_on_idle(entry)
        # 4. One that fits as soon as releasing allocations have ended is nominated there, without evictions.
        or placement.nominate_on_releasing(entry)
        # 5. One that fits after evicting lower ones is nominated, together with the evictions.
        or placement.preempt(entry)
    ):
        return
    state.iterator.mark_inadmissible(row)
    # 6. The first deployment that no step admits, although some node is large enough, reserves capacity.
    if state.head_reservation is None:
        reserve_for_head(state, entry)
