"""Why lower deployments on the node of a preemption were reprieved."""

from __future__ import annotations

from collections.abc import Sequence

from hypervisor.scheduling.plan_result import Reprieved
from hypervisor.scheduling.preemption.candidates import EvictionCandidates
from hypervisor.scheduling.preemption.victims import EvictionCandidate


def reprieved_on_node(
    candidates: EvictionCandidates, now: float, node: int, priority: int, evicted: Sequence[EvictionCandidate]
) -> tuple[Reprieved, ...]:
    """Every lower deployment that stays on the node, with the reason."""
    table = candidates.table
    evicted_ids = {int(table.deployment_id[victim.row]) for victim in evicted}
    found = []
    for candidate in candidates.on_node(node):
        row = candidate.row
        if candidate.priority >= priority or int(table.deployment_id[row]) in evicted_ids:
            continue
        if not table.preemptible[row]:
            why = "not preemptible"
        elif table.protected_until[row] > now:
            why = "still within its minimum runtime"
        elif not candidates.evictable[row]:
            why = "already evicted for another deployment"
        else:
            why = "fits beside the preemptor"
        found.append(Reprieved(int(table.deployment_id[row]), why))
    return tuple(found)
