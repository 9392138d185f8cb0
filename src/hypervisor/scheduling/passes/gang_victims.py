"""The victims for a deployment whose replicas may be on several nodes, and the reprieved deployments."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from hypervisor.scheduling.passes.pass_state import PassState
from hypervisor.scheduling.plan_result import PreemptionRule, Reprieved
from hypervisor.scheduling.preemption.eviction_groups import (
    EvictionGroup,
    GangEvictionTrial,
    choose_victim_groups,
)
from hypervisor.scheduling.preemption.nominations import ActiveNomination
from hypervisor.scheduling.preemption.reprieve_reasons import reprieved_on_node
from hypervisor.scheduling.queueing.queue import QueueEntry
from hypervisor.scheduling.snapshots.snapshot import Bool


@dataclass(frozen=True, slots=True)
class GroupVictim:
    """A group to evict, and the rule; `rule` is None for nominations, which are overridden."""

    group: EvictionGroup
    rule: PreemptionRule | None


def choose_victims(state: PassState, entry: QueueEntry, eligible: Bool) -> list[GroupVictim] | None:
    """A minimal set of groups that makes all replicas fit on the eligible nodes; None if there is none."""
    capacity = state.capacity
    trial = GangEvictionTrial(
        entry.request,
        eligible,
        capacity.idle_cpu + capacity.releasing_cpu,
        capacity.idle_ram + capacity.releasing_ram,
        capacity.idle_gpu + capacity.releasing_gpu,
    )
    if state.victim_search.depends_on_owner(entry.row):
        chosen = state.victim_search.find_groups(entry.row, entry.rank, trial)
        return None if chosen is None else [GroupVictim(one.group, one.rule) for one in chosen]
    groups = choose_victim_groups(trial, state.queue.replicas(entry.row), _groups(state, entry, eligible))
    return None if groups is None else [GroupVictim(group, _rule(group)) for group in groups]


def reprieved_beside(
    state: PassState, entry: QueueEntry, evicted: list[EvictionGroup]
) -> tuple[Reprieved, ...]:
    """Lower deployments that stay on the nodes of the victims, each once."""
    nodes = sorted({node for group in evicted for node, _ in group.parts})
    victims, now = [group.parts[0][1] for group in evicted], state.snapshot.now
    priority = state.queue.priority(entry.row)
    found: dict[int, Reprieved] = {}
    for node in nodes:
        for reprieved in reprieved_on_node(state.candidates, now, node, priority, victims):
            found.setdefault(reprieved.deployment_id, reprieved)
    return tuple(found.values())


def _groups(state: PassState, entry: QueueEntry, eligible: Bool) -> list[EvictionGroup]:
    """Everything that the deployment may evict, and lower-ranked nominations, which it may override."""
    found = []
    if state.policy.preemption:
        lower = state.candidates.lower_than(state.queue.priority(entry.row))
        lower &= eligible[state.candidates.table.node]
        if lower.any():
            found = state.candidates.groups(lower)
    nominated: dict[int, list[ActiveNomination]] = defaultdict(list)
    for held in state.nominations.all():
        if held.rank > entry.rank:
            nominated[held.deployment_id].append(held)
    found += [
        EvictionGroup(id_, tuple((held.node, held.as_candidate()) for held in all_held))
        for id_, all_held in nominated.items()
    ]
    return found


def _rule(group: EvictionGroup) -> PreemptionRule | None:
    """Without quotas only a lower priority counts."""
    return PreemptionRule.PRIORITY if group.parts[0][1].row >= 0 else None
