"""The ways in which a pass changes its state: start, nominate, withdraw, evict, and note freed capacity."""

from __future__ import annotations

from hypervisor.scheduling.passes.pass_state import PassState
from hypervisor.scheduling.plan_result import Eviction, Placement, PreemptionRule
from hypervisor.scheduling.preemption.nominations import ActiveNomination
from hypervisor.scheduling.preemption.victims import EvictionCandidate
from hypervisor.scheduling.snapshots.requests import Request


def start_replica(
    state: PassState, row: int, request: Request, node: int, devices: tuple[int, ...], replica: int = 0
) -> None:
    """Start a replica of the pending row on idle devices of the node."""
    state.capacity.place(node, request, devices)
    state.quotas.record_start(row, request)
    _charge_head(state, row, request, node, devices)
    state.placed[row] = True
    node_id = int(state.snapshot.nodes.id[node])
    state.placements.append(Placement(state.queue.deployment_id(row), node_id, devices, replica))


def nominate(
    state: PassState,
    row: int,
    rank: int,
    request: Request,
    node: int,
    devices: tuple[int, ...],
    replica: int = 0,
    confirmed: bool = True,
) -> None:
    """Claim idle or releasing capacity of a node for a replica of the pending row.

    `confirmed` is False for a nomination of an earlier pass until the queue reaches its deployment.
    """
    state.quotas.record_nomination(row, request)
    _charge_head(state, row, request, node, devices)
    queue = state.queue
    nomination = ActiveNomination(
        row=row,
        rank=rank,
        deployment_id=queue.deployment_id(row),
        priority=queue.priority(row),
        evictable_on_start=queue.evictable_on_start(row),
        request=request,
        node=node,
        devices=devices,
        claim=state.capacity.claim(node, request, devices),
        replica=replica,
    )
    state.nominations.add(nomination, confirmed)


def withdraw_nominations(state: PassState, row: int) -> None:
    """Release the nominations of all replicas of the pending row, if any."""
    for held in state.nominations.drop(row):
        state.quotas.record_withdrawal(row, held.request)
        head = state.head_on(held.node)
        if head is not None and state.must_respect_head(row):
            head.refund(held.request, held.devices)


def evict(state: PassState, victim: EvictionCandidate, preemptor_row: int, rule: PreemptionRule) -> None:
    """Evict all allocations of the victim, including those of a gang on other nodes."""
    table, queue = state.snapshot.allocations, state.queue
    for row in state.candidates.evict(victim):
        state.quotas.record_eviction(row)
        state.evictions.append(
            Eviction(
                allocation_id=int(table.id[row]),
                deployment_id=int(table.deployment_id[row]),
                node_id=int(state.snapshot.nodes.id[table.node[row]]),
                preemptor_id=queue.deployment_id(preemptor_row),
                lost_work=float(state.candidates.lost_work[row]),
                rule=rule,
                preemptor_priority=queue.priority(preemptor_row),
                victim_priority=victim.priority,
            )
        )


def on_capacity_freed(state: PassState) -> None:
    """Clear the cached refusals: a withdrawn nomination has freed capacity."""
    state.capacity.invalidate()
    state.unplaceable_shapes.clear()
    state.iterator.on_capacity_freed()


def _charge_head(state: PassState, row: int, request: Request, node: int, devices: tuple[int, ...]) -> None:
    """Charge the head's reservation for the use of this node by a deployment that respects it."""
    head = state.head_on(node)
    if head is not None and state.must_respect_head(row):
        head.consume(request, devices)
