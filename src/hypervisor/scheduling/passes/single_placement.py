"""Placing one deployment with a single replica."""

from __future__ import annotations

import numpy as np

from hypervisor.scheduling.capacity.feasibility import fits_after_release, fits_capacity
from hypervisor.scheduling.passes.devices import future_devices, idle_devices, pick_devices
from hypervisor.scheduling.passes.pass_state import PassState
from hypervisor.scheduling.passes.transitions import (
    evict,
    nominate,
    on_capacity_freed,
    start_replica,
    withdraw_nominations,
)
from hypervisor.scheduling.plan_result import PreemptionRule
from hypervisor.scheduling.preemption.nominations import ActiveNomination
from hypervisor.scheduling.preemption.reprieve_reasons import reprieved_on_node
from hypervisor.scheduling.preemption.single_node_search import PreemptionOption
from hypervisor.scheduling.queueing.queue import QueueEntry
from hypervisor.scheduling.scoring.node_ranking import NO_NODE
from hypervisor.scheduling.snapshots.requests import Request

_PREEMPTION_TRIES = 2
"""The best node, and the next one if the head's reservation forbids the best."""


class SinglePlacement:
    """The steps for one replica, on the state of the pass."""

    def __init__(self, state: PassState) -> None:
        self._state = state

    def resolve(self, nomination: ActiveNomination) -> bool:
        """Start a nominated deployment on its node, else elsewhere, else keep its nomination.

        False if the nomination is no longer feasible: it is withdrawn, and the deployment is decided on as
        if it had none.
        """
        state, row, request = self._state, nomination.row, nomination.request
        withdraw_nominations(state, row)
        if state.quotas.may_start_now(row) and self._fits_idle(request, nomination.node):
            self._start_on(nomination)
            return True
        if self.place_on_idle(state.entry(row, nomination.rank)):
            on_capacity_freed(state)
            return True
        node, devices = nomination.node, nomination.devices
        if state.nominations.is_feasible(request, node, devices):
            nominate(state, row, nomination.rank, request, node, devices)
            return True
        on_capacity_freed(state)
        return False

    def place_on_idle(self, entry: QueueEntry) -> bool:
        """Start it on the best node with enough idle capacity."""
        state, request = self._state, entry.request
        if request.index in state.unplaceable_shapes or not state.quotas.may_start_now(entry.row):
            return False
        node = state.ranking.best_node(request)
        if node == NO_NODE:
            state.unplaceable_shapes.add(request.index)
            return False
        # A gang at the head may reserve several nodes. One may be forbidden for this deployment, the next
        # allowed.
        passed: list[int] = []
        while node != NO_NODE:
            devices = self._start_devices(entry, node)
            if devices is not None:
                start_replica(state, entry.row, request, node, devices)
                return True
            passed.append(node)
            node = state.ranking.best_node(request, without=passed)
        return False

    def nominate_on_releasing(self, entry: QueueEntry) -> bool:
        """Nominate it where idle and releasing capacity suffice."""
        capacity = self._state.capacity
        if not capacity.has_releasing:
            return False
        fitting = np.flatnonzero(fits_after_release(capacity, entry.request)).tolist()
        if entry.previous_node in fitting:
            fitting.insert(0, entry.previous_node)
        for node in fitting:
            devices = future_devices(capacity, entry.request, node)
            if self._head_allows(entry, node, devices):
                nominate(self._state, entry.row, entry.rank, entry.request, node, devices)
                return True
        return False

    def preempt(self, entry: QueueEntry) -> bool:
        """Evict lower work on the node where that costs least, and nominate it there."""
        state, request = self._state, entry.request
        without = self._closed_node(entry)
        for _ in range(_PREEMPTION_TRIES):
            option = state.victim_search.find(entry.row, entry.rank, request, without)
            if option is None:
                return False
            devices = future_devices(state.capacity, request, option.node, option.victims)
            if self._head_allows(entry, option.node, devices):
                self._apply(entry, option)
                return True
            without = option.node
        return False

    def _fits_idle(self, request: Request, node: int) -> bool:
        capacity = self._state.capacity
        idle = int(capacity.idle_cpu[node]), int(capacity.idle_ram[node]), capacity.idle_gpu[node].tolist()
        return fits_capacity(request, *idle)

    def _start_on(self, nomination: ActiveNomination) -> None:
        """Start it on its node, on its nominated devices if they are idle."""
        state, request, node = self._state, nomination.request, nomination.node
        usable = idle_devices(state.capacity, request, node)
        same = set(nomination.devices).issubset(usable)
        devices = nomination.devices if same else pick_devices(state, request, node, usable)
        start_replica(state, nomination.row, request, node, devices)
        if not same:
            on_capacity_freed(state)

    def _start_devices(self, entry: QueueEntry, node: int) -> tuple[int, ...] | None:
        """Devices of the node to start on; None if every choice would take from the head."""
        state, request = self._state, entry.request
        usable = idle_devices(state.capacity, request, node)
        head = state.head_on(node) if entry.respects_head else None
        if head is None:
            return pick_devices(state, request, node, usable)
        if request.device_count == 1 and not request.whole_devices:
            ranked = state.scorer.rank_devices(request, node, usable)
            return next(((device,) for device in ranked if head.allows(request, (device,))), None)
        devices = tuple(usable[: request.device_count])
        return devices if head.allows(request, devices) else None

    def _head_allows(self, entry: QueueEntry, node: int, devices: tuple[int, ...]) -> bool:
        head = self._state.head_on(node) if entry.respects_head else None
        return head is None or head.allows(entry.request, devices)

    def _closed_node(self, entry: QueueEntry) -> int:
        """The reserved node, if the choice of victims decides whether the head allows this deployment there.

        The cheapest victims change with time. Time alone must not admit a deployment.
        """
        head = self._state.head_reservation
        if head is None or not entry.respects_head or head.allows_any_devices(entry.request):
            return NO_NODE
        return head.node

    def _apply(self, entry: QueueEntry, option: PreemptionOption) -> None:
        """Evict and override. Start at once if only nominations had to be overridden, else nominate."""
        state, request, row, node = self._state, entry.request, entry.row, option.node
        evicted = [victim for victim in option.victims if victim.row >= 0]
        if evicted:
            state.reprieved[state.queue.deployment_id(row)] = reprieved_on_node(
                state.candidates, state.snapshot.now, node, state.queue.priority(row), evicted
            )
        for victim in evicted:
            evict(state, victim, row, option.rules.get(victim.row, PreemptionRule.PRIORITY))
        overridden = {victim.id for victim in option.victims if victim.row < 0}
        for held in [one for one in state.nominations.on_node(node) if one.deployment_id in overridden]:
            withdraw_nominations(state, held.row)
        if not evicted and state.quotas.may_start_now(row) and self._fits_idle(request, node):
            usable = idle_devices(state.capacity, request, node)
            start_replica(state, row, request, node, pick_devices(state, request, node, usable))
        else:
            nominate(state, row, entry.rank, request, node, future_devices(state.capacity, request, node))
        if overridden:
            on_capacity_freed(state)
