"""Placing one gang: all of its replicas at once, by the same steps as a single replica."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from hypervisor.scheduling.capacity.feasibility import fits_idle
from hypervisor.scheduling.capacity.replicas import assign_replicas, replicas_per_node
from hypervisor.scheduling.passes.devices import future_devices, idle_devices, pick_devices
from hypervisor.scheduling.passes.gang_victims import GroupVictim, choose_victims, reprieved_beside
from hypervisor.scheduling.passes.pass_state import PassState
from hypervisor.scheduling.passes.transitions import (
    evict,
    nominate,
    on_capacity_freed,
    start_replica,
    withdraw_nominations,
)
from hypervisor.scheduling.preemption.nominations import ActiveNomination
from hypervisor.scheduling.queueing.queue import QueueEntry
from hypervisor.scheduling.snapshots.requests import Request
from hypervisor.scheduling.snapshots.snapshot import Bool, Int64


class GangPlacement:
    """The steps for all replicas of a gang, on the state of the pass."""

    def __init__(self, state: PassState) -> None:
        self._state = state

    def resolve(self, nomination: ActiveNomination) -> bool:
        """Start a nominated gang on its nodes, else elsewhere, else keep its nominations.

        False if they are no longer feasible: they are withdrawn, and the gang is decided on as if it had
        none. `nomination` is that of its first replica.
        """
        state, row, rank = self._state, nomination.row, nomination.rank
        held_before = state.nominations.of_row(row)
        withdraw_nominations(state, row)
        if self._start_as_nominated(held_before):
            return True
        if self.place_on_idle(state.entry(row, rank)):
            on_capacity_freed(state)
            return True
        for held in held_before:
            if not state.nominations.is_feasible(held.request, held.node, held.devices):
                withdraw_nominations(state, row)
                on_capacity_freed(state)
                return False
            nominate(state, row, rank, held.request, held.node, held.devices, held.replica)
        return True

    def place_on_idle(self, entry: QueueEntry) -> bool:
        """Start all replicas on idle capacity."""
        state, queue, request = self._state, self._state.queue, entry.request
        counts = self._idle_counts(request, self._eligible(entry))
        replicas = queue.replicas(entry.row)
        if int(counts.sum()) < replicas or not state.quotas.may_start_now(entry.row):
            return False
        nodes = assign_replicas(counts, self._scores(request, counts), replicas, queue.spread(entry.row))
        for replica, node in enumerate(nodes or []):
            usable = idle_devices(state.capacity, request, node)
            devices = pick_devices(state, request, node, usable)
            start_replica(state, entry.row, request, node, devices, replica)
        return True

    def nominate_on_releasing(self, entry: QueueEntry) -> bool:
        """Nominate all replicas where idle and releasing capacity suffice."""
        return self._state.capacity.has_releasing and self._nominate_all(entry)

    def preempt(self, entry: QueueEntry) -> bool:
        """Evict lower work on any nodes, so that all replicas fit; also for a deployment over its limit."""
        victims = choose_victims(self._state, entry, self._eligible(entry))
        if victims is None:
            return False
        self._apply(entry, victims)
        return True

    def _eligible(self, entry: QueueEntry) -> Bool:
        """The nodes that it may use, without those that the head reserves."""
        head = self._state.head_reservation
        if head is None or not entry.respects_head:
            return entry.request.eligible
        eligible = entry.request.eligible.copy()
        eligible[head.nodes] = False
        return eligible

    def _idle_counts(self, request: Request, eligible: Bool) -> Int64:
        """How many replicas each node could start now."""
        capacity = self._state.capacity
        return replicas_per_node(request, eligible, capacity.idle_cpu, capacity.idle_ram, capacity.idle_gpu)

    def _scores(self, request: Request, counts: Int64) -> Int64:
        """The score of each node that could take a replica; lower is better."""
        scores = np.zeros(len(counts), np.int64)
        nodes = np.flatnonzero(counts)
        scores[nodes] = self._state.scorer.score(request, nodes)
        return scores

    def _start_as_nominated(self, nominations: tuple[ActiveNomination, ...]) -> bool:
        """Start each replica where it was nominated, if everything there is idle now."""
        state, request = self._state, nominations[0].request
        if not state.quotas.may_start_now(nominations[0].row):
            return False
        needed: dict[int, int] = defaultdict(int)
        for held in nominations:
            needed[held.node] += 1
            if not set(held.devices).issubset(idle_devices(state.capacity, request, held.node)):
                return False
        counts = self._idle_counts(request, request.eligible)
        if any(counts[node] < required for node, required in needed.items()):
            return False
        if not _devices_suffice(request, nominations, state.capacity.idle_gpu):
            return False
        for held in nominations:
            start_replica(state, held.row, request, held.node, held.devices, held.replica)
        return True

    def _nominate_all(self, entry: QueueEntry) -> bool:
        """Nominate all replicas on idle and releasing capacity, on nodes that are idle now first."""
        state, capacity, request = self._state, self._state.capacity, entry.request
        counts = replicas_per_node(
            request,
            self._eligible(entry),
            capacity.idle_cpu + capacity.releasing_cpu,
            capacity.idle_ram + capacity.releasing_ram,
            capacity.idle_gpu + capacity.releasing_gpu,
        )
        later = (~fits_idle(capacity, request)).astype(np.int64)
        queue = state.queue
        nodes = assign_replicas(counts, later, queue.replicas(entry.row), queue.spread(entry.row))
        if nodes is None:
            return False
        for replica, node in enumerate(nodes):
            devices = future_devices(capacity, request, node)
            nominate(state, entry.row, entry.rank, request, node, devices, replica)
        return True

    def _apply(self, entry: QueueEntry, victims: list[GroupVictim]) -> None:
        """Evict and override. Start at once if only nominations had to be overridden, else nominate."""
        state = self._state
        evicted = [(one.group, one.rule) for one in victims if one.rule is not None]
        overridden = {one.group.deployment_id for one in victims if one.rule is None}
        if evicted:
            deployment_id = state.queue.deployment_id(entry.row)
            state.reprieved[deployment_id] = reprieved_beside(state, entry, [group for group, _ in evicted])
        for group, rule in evicted:
            evict(state, group.parts[0][1], entry.row, rule)
        for held in [one for one in state.nominations.all() if one.deployment_id in overridden]:
            withdraw_nominations(state, held.row)
        if overridden:
            on_capacity_freed(state)
        if evicted or not self.place_on_idle(entry):
            self._nominate_all(entry)


def _devices_suffice(request: Request, nominations: tuple[ActiveNomination, ...], idle_gpu: Int64) -> bool:
    """Whether each device has enough idle capacity for all replicas on it."""
    required: dict[tuple[int, int], int] = defaultdict(int)
    for held in nominations:
        for device in held.devices:
            required[held.node, device] += request.milli_per_device
    return all(idle_gpu[device] >= amount for device, amount in required.items())
