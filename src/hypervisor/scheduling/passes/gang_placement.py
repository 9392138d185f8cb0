"""Deciding on one gang: all of its replicas at once, by the same steps as for a single deployment."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

from hypervisor.scheduling.capacity.feasibility import fits_idle, usable_devices
from hypervisor.scheduling.plan_result import Reprieved
from hypervisor.scheduling.preemption.gang import (
    EvictionGroup,
    GangRoom,
    assign_replicas,
    choose_victim_groups,
    replicas_per_node,
    replicas_when_empty,
)
from hypervisor.scheduling.preemption.legality import describe
from hypervisor.scheduling.preemption.nominations import ActiveNomination
from hypervisor.scheduling.preemption.reprieve_reasons import reprieved_on_node, rule_of
from hypervisor.scheduling.snapshots.requests import Request
from hypervisor.scheduling.snapshots.snapshot import Bool, Int64

if TYPE_CHECKING:
    from hypervisor.scheduling.passes.pass_state import PassState

_Victims = list[tuple[EvictionGroup, str]]
"""Who yields, and by which rule in words (empty for a nomination)."""


class GangPlacement:
    """What a pass does for gangs; it works on the pass's own state."""

    def __init__(self, admission: PassState) -> None:
        self._pass = admission

    def admit(self, row: int, rank: int, request: Request, restricted: bool) -> bool:
        """Start all replicas, or nominate all of them, with evictions where that takes some."""
        eligible = self._eligible(request, restricted)
        return (
            self._place_in_free(row, request, eligible)
            or self._nominate_in_coming(row, rank, request, eligible)
            or self._preempt(row, rank, request, eligible)
        )

    def admit_within_limit(self, row: int, rank: int, request: Request, restricted: bool) -> bool:
        """Nominate a deployment, a gang or not, in place of its organization's own lower work."""
        return self._preempt(row, rank, request, self._eligible(request, restricted))

    def settle(self, row: int) -> bool:
        """Start a nominated gang on its nodes, else elsewhere; keep its nominations if neither goes.

        False if they can no longer be met: they are dropped and the gang is decided anew.
        """
        kept = self._pass.nominations.of_row(row)
        request, rank = kept[0].request, kept[0].rank
        self._pass.drop_nominations(row)
        if self._start_as_kept(kept):
            return True
        eligible = self._eligible(request, self._pass.must_respect_head(row))
        if self._place_in_free(row, request, eligible):
            self._pass.on_capacity_freed()
            return True
        for held in kept:
            if not self._pass.nominations.is_feasible(request, held.node, held.devices):
                self._pass.drop_nominations(row)
                self._pass.on_capacity_freed()
                return False
            self._pass.nominate(row, rank, request, held.node, held.devices, held.replica)
        return True

    def may_ever_fit(self, row: int, request: Request) -> bool:
        """Whether the empty cluster could take all replicas of the deployment (true of a single one)."""
        if not self._pass.queue.is_gang(row):
            return True
        possible = replicas_when_empty(self._pass.snapshot.nodes, request, request.eligible)
        return possible >= self._pass.queue.replicas(row)

    def free_counts(self, request: Request, eligible: Bool) -> Int64:
        """How many replicas each node could start now."""
        state = self._pass.capacity
        return replicas_per_node(request, eligible, state.idle_cpu, state.idle_ram, state.idle_gpu)

    def _eligible(self, request: Request, restricted: bool) -> Bool:
        """The nodes that it may use; what the head of the queue holds is left alone."""
        hold = self._pass.head_reservation
        if hold is None or not restricted:
            return request.eligible
        eligible = request.eligible.copy()
        eligible[hold.nodes] = False
        return eligible

    def _start_as_kept(self, kept: tuple[ActiveNomination, ...]) -> bool:
        """Start each replica where it was nominated, if everything there has become free."""
        state, request = self._pass.capacity, kept[0].request
        if not self._pass.tenancy.may_start_now(kept[0].row):
            return False
        needed: dict[int, int] = defaultdict(int)
        for held in kept:
            needed[held.node] += 1
            usable = (
                usable_devices(request, state.idle_gpu[held.node].tolist()) if request.device_count else []
            )
            if not set(held.devices).issubset(usable):
                return False
        counts = self.free_counts(request, request.eligible)
        if any(counts[node] < wanted for node, wanted in needed.items()):
            return False
        if not _devices_suffice(request, kept, state.idle_gpu):
            return False
        for held in kept:
            self._pass.place(held.row, request, held.node, held.devices, held.replica)
        return True

    def _place_in_free(self, row: int, request: Request, eligible: Bool) -> bool:
        queue = self._pass.queue
        counts = self.free_counts(request, eligible)
        if int(counts.sum()) < queue.replicas(row) or not self._pass.tenancy.may_start_now(row):
            return False
        nodes = assign_replicas(counts, self._losses(request, counts), queue.replicas(row), queue.spread(row))
        self._place(row, request, nodes or [])
        return True

    def _losses(self, request: Request, counts: Int64) -> Int64:
        """The loss of each node that could take a replica."""
        losses = np.zeros(len(counts), np.int64)
        nodes = np.flatnonzero(counts)
        losses[nodes] = self._pass.scorer.score(request, nodes)
        return losses

    def _place(self, row: int, request: Request, nodes: list[int]) -> None:
        for replica, node in enumerate(nodes):
            free = self._pass.capacity.idle_gpu[node].tolist()
            usable = usable_devices(request, free) if request.device_count else []
            devices = self._pass.pick_devices(request, node, usable)
            self._pass.place(row, request, node, devices, replica)

    def _nominate_in_coming(self, row: int, rank: int, request: Request, eligible: Bool) -> bool:
        """Nominate where what is free and what is coming suffice; nobody is evicted for that."""
        return self._pass.capacity.has_releasing and self._reserve(row, rank, request, eligible)

    def _reserve(self, row: int, rank: int, request: Request, eligible: Bool) -> bool:
        """Keep what is free and coming for all replicas, if it suffices; nodes that are free now first."""
        queue, state = self._pass.queue, self._pass.capacity
        counts = replicas_per_node(
            request,
            eligible,
            state.idle_cpu + state.releasing_cpu,
            state.idle_ram + state.releasing_ram,
            state.idle_gpu + state.releasing_gpu,
        )
        losses = (~fits_idle(state, request)).astype(np.int64)
        nodes = assign_replicas(counts, losses, queue.replicas(row), queue.spread(row))
        if nodes is None:
            return False
        for replica, node in enumerate(nodes):
            devices = self._pass.devices_after_release(request, node)
            self._pass.nominate(row, rank, request, node, devices, replica)
        return True

    def _preempt(self, row: int, rank: int, request: Request, eligible: Bool) -> bool:
        state = self._pass.capacity
        room = GangRoom(
            request,
            eligible,
            state.idle_cpu + state.releasing_cpu,
            state.idle_ram + state.releasing_ram,
            state.idle_gpu + state.releasing_gpu,
        )
        if self._pass.tenancy.depends_on_owner(row):
            victims = self._gathered(row, rank, room)
        else:
            victims = self._lowest(row, rank, room, eligible)
        if victims is None:
            return False
        self._carry_out(row, rank, request, eligible, victims)
        return True

    def _gathered(self, row: int, rank: int, room: GangRoom) -> _Victims | None:
        chosen = self._pass.tenancy.find_victim_groups(row, rank, room)
        if chosen is None:
            return None
        priority = self._pass.queue.priority(row)
        return [
            (one.group, describe(one.rule, priority, one.group.priority) if one.rule else "")
            for one in chosen
        ]

    def _lowest(self, row: int, rank: int, room: GangRoom, eligible: Bool) -> _Victims | None:
        queue = self._pass.queue
        parties = choose_victim_groups(room, queue.replicas(row), self._yielding(row, rank, eligible))
        if parties is None:
            return None
        return [(party, rule_of(queue.priority(row), party.priority)) for party in parties]

    def _yielding(self, row: int, rank: int, eligible: Bool) -> list[EvictionGroup]:
        """Whoever may be evicted for this gang, and lower-ranked nominations, which it may override."""
        found = []
        queue, candidates = self._pass.queue, self._pass.candidates
        if self._pass.policy.preemption:
            table = candidates.table
            below = candidates.lower_than(queue.priority(row)) & eligible[table.node]
            if below.any():
                found = candidates.groups(below)
        lower: dict[int, list[ActiveNomination]] = defaultdict(list)
        for held in self._pass.nominations.all():
            if held.rank > rank:
                lower[held.deployment_id].append(held)
        found += [
            EvictionGroup(id_, tuple((held.node, held.as_candidate()) for held in all_held))
            for id_, all_held in lower.items()
        ]
        return found

    def _carry_out(self, row: int, rank: int, request: Request, eligible: Bool, victims: _Victims) -> None:
        """Evict and override, then start at once if only nominations stood in the way, else nominate."""
        deployment_id, priority = self._pass.queue.deployment_id(row), self._pass.queue.priority(row)
        evicted = [(party, rule) for party, rule in victims if party.parts[0][1].row >= 0]
        overridden = {party.deployment_id for party, _ in victims if party.parts[0][1].row < 0}
        if evicted:
            self._pass.reprieved[deployment_id] = self._spared([party for party, _ in evicted], priority)
        for party, rule in evicted:
            self._pass.evict(party.parts[0][1], deployment_id, rule)
        for held in [one for one in self._pass.nominations.all() if one.deployment_id in overridden]:
            self._pass.drop_nominations(held.row)
        if overridden:
            self._pass.on_capacity_freed()
        if evicted or not self._place_in_free(row, request, eligible):
            self._reserve(row, rank, request, eligible)

    def _spared(self, evicted: list[EvictionGroup], priority: int) -> tuple[Reprieved, ...]:
        """Lower ones that stay on the nodes of the victims, each once."""
        nodes = sorted({node for party in evicted for node, _ in party.parts})
        victims = [party.parts[0][1] for party in evicted]
        found: dict[int, Reprieved] = {}
        for node in nodes:
            for spared in reprieved_on_node(
                self._pass.candidates, self._pass.snapshot.now, node, priority, victims
            ):
                found.setdefault(spared.deployment_id, spared)
        return tuple(found.values())


def _devices_suffice(request: Request, kept: tuple[ActiveNomination, ...], free_gpu: Int64) -> bool:
    """Whether several replicas on one device find enough of it."""
    wanted: dict[tuple[int, int], int] = defaultdict(int)
    for held in kept:
        for device in held.devices:
            wanted[held.node, device] += request.milli_per_device
    return all(free_gpu[place] >= amount for place, amount in wanted.items())
