"""The decision: one pass over the queue, pure and deterministic."""

from __future__ import annotations

from hypervisor.scheduling.explanation.explain import explain_waiting
from hypervisor.scheduling.passes.pass_state import PassState
from hypervisor.scheduling.passes.reprieve import reprieve_victims
from hypervisor.scheduling.plan_result import Plan
from hypervisor.scheduling.policy import Policy
from hypervisor.scheduling.queueing.ordering import queue_order
from hypervisor.scheduling.queueing.queue import Queue
from hypervisor.scheduling.repacking.budget import NullObserver, SearchObserver
from hypervisor.scheduling.repacking.pass_optimizer import optimize_placements
from hypervisor.scheduling.snapshots.snapshot import Snapshot


def plan(snapshot: Snapshot, policy: Policy | None = None, watch: SearchObserver | None = None) -> Plan:
    """Decide what starts now, what must yield for whom, and why the rest waits.

    1. Nominations of earlier passes claim their capacity.
    2. Deployments are taken in queue order: priority, age, id.
    3. One that fits in what is free is placed on the node with the best score.
    4. One that fits as soon as releasing work is gone is nominated there; nobody is evicted for it.
    5. One that fits after evicting lower ones is nominated together with the evictions.
    6. The first that none of this helps, although some node is large enough, holds its nearest node.
    7. Victims that could stay beside everything decided so far stay.
    8. If the policy asks for it, placements of this pass are rearranged where that places more of what waits.
    9. Everything that was not placed gets a reason.

    The same snapshot and policy give the same plan, whatever the order of the rows of its tables. `watch` is
    told of the search for such an arrangement. Raises PackerMissing where the policy's packer is missing.
    """
    chosen = policy or Policy()
    admission = PassState(snapshot, chosen, Queue(snapshot, queue_order(snapshot, chosen)))
    admission.claim_nominations()
    admission.admit_queue()
    reprieve_victims(admission)
    optimize_placements(admission, watch or NullObserver())
    return Plan(
        placements=tuple(admission.placements),
        evictions=tuple(admission.evictions),
        nominations=admission.nominations_for_plan(),
        unplaced=explain_waiting(admission),
        reprieved=admission.reprieved,
    )
