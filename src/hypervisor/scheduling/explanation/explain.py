"""A reason for every waiting deployment: computed once per shape, and worded once per equivalence class."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property

import numpy as np

from hypervisor.kernel.resources import WHOLE_GPU, Resources
from hypervisor.scheduling.decision_codec.lazy_unplaced import LazyUnplaced
from hypervisor.scheduling.explanation.closed_nodes import closed_nodes
from hypervisor.scheduling.explanation.gang_reason import gang_reason
from hypervisor.scheduling.explanation.infeasibility import infeasibility
from hypervisor.scheduling.explanation.shared_reasons import (
    head_reason,
    head_start_text,
    limit_reason,
    visible_owners,
)
from hypervisor.scheduling.explanation.shortage import Shortage, ShortageFinder
from hypervisor.scheduling.passes.pass_state import PassState
from hypervisor.scheduling.plan_result import Reason, ReasonCode, Unplaced
from hypervisor.scheduling.preemption.candidates import PreemptibleCapacity
from hypervisor.scheduling.preemption.nominations import ActiveNomination
from hypervisor.scheduling.snapshots.requests import Request
from hypervisor.scheduling.snapshots.wording import listed


def explain_unplaced(state: PassState) -> Sequence[Unplaced]:
    """Every deployment that was not placed, in queue order, with its reason."""
    queue = state.queue
    rows = queue.order[~state.placed[queue.order]]
    return LazyUnplaced(queue.pending.deployment_id[rows], rows, Explainer(state).reason_for_row)


class Explainer:
    """Reasons at the end of a pass. Work that depends on the shape alone is done once per shape."""

    def __init__(self, state: PassState) -> None:
        self._state = state
        self._shortages = ShortageFinder(state)
        self._by_shape: dict[tuple[int, int], Reason | Shortage] = {}
        self._by_class: dict[int, Reason] = {}

    def reason_for_row(self, row: int) -> Reason:
        """Why this pending row was not placed. Rows of a class share a reason, unless they are nominated."""
        state, queue = self._state, self._state.queue
        nominations = state.nominations.of_row(row)
        if nominations:
            return self.reason_for_nominated(nominations)
        head = state.head_reservation
        if head is not None and queue.deployment_id(row) == head.deployment_id:
            return head_reason(state.snapshot, head, self.reason_for_class(row))
        number = int(queue.equivalence_class[row])
        found = self._by_class.get(number)
        if found is None:
            representative = int(queue.representative[number])
            found = self._by_class[number] = self.reason_for_class(representative)
        return found

    def reason_for_class(self, row: int) -> Reason:
        """Why the class of this row was neither placed nor nominated."""
        queue, quotas = self._state.queue, self._state.quotas
        request, replicas = self._state.request_for(queue.shape(row)), queue.replicas(row)
        organization = quotas.organization(row)
        limited = limit_reason(quotas, row)
        if limited is not None:
            return self._infeasible(request, replicas) or limited
        if queue.is_gang(row):
            infeasible = self._infeasible(request, replicas)
            return infeasible or gang_reason(self._state, request, replicas, organization)
        found = self._by_shape.get((request.index, organization))
        if found is None:
            found = self._by_shape[request.index, organization] = self._for_shape(request, organization)
        if isinstance(found, Reason):
            return found
        return self._shortages.reason(request, found, queue.priority(row))

    def reason_for_nominated(self, nominations: Sequence[ActiveNomination]) -> Reason:
        """The reason for a nominated deployment: it waits for releasing allocations on its nodes to end."""
        nodes = sorted({held.node for held in nominations})
        names = [self._state.snapshot.nodes.name[node] for node in nodes]
        releasing = len(set().union(*(self._releasing_on[node] for node in nodes)))
        count = f"{releasing} deployment" + (" has" if releasing == 1 else "s have")
        shortfall = Resources()
        for held in nominations:
            claim = held.claim
            shortfall += Resources(claim.releasing_cpu, claim.releasing_ram, sum(claim.releasing_gpu))
        return Reason(
            ReasonCode.WAITING_FOR_VICTIMS,
            f"is nominated on {listed(names)} and starts when {count} stopped there",
            shortfall=shortfall,
            nearest_node=names[0],
            suggestion="no action needed: it starts automatically",
        )

    @cached_property
    def _releasing_on(self) -> defaultdict[int, set[int]]:
        """By node the deployments that are stopping there or were evicted."""
        found: defaultdict[int, set[int]] = defaultdict(set)
        table, ids = self._state.snapshot.allocations, self._state.snapshot.nodes.id
        for row in np.flatnonzero(table.releasing).tolist():
            found[int(table.node[row])].add(int(table.deployment_id[row]))
        node_rows = {int(node_id): row for row, node_id in enumerate(ids)}
        for eviction in self._state.evictions:
            found[node_rows[eviction.node_id]].add(eviction.deployment_id)
        return found

    def _infeasible(self, request: Request, replicas: int = 1) -> Reason | None:
        """The reason that remains even if all other work ends."""
        nodes = self._state.snapshot.nodes
        return infeasibility(nodes, self._state.eligibility, request.shape, replicas) or closed_nodes(
            nodes, request, self._state.eligibility.matching(request.shape), replicas
        )

    def _for_shape(self, request: Request, organization: int) -> Reason | Shortage:
        return (
            self._infeasible(request)
            or self._reserved_for_another(request, organization)
            or self._shortages.find(request, organization)
        )

    def _reserved_for_another(self, request: Request, organization: int) -> Reason | None:
        """The reason if it would fit without nominations and reservations."""
        state, nodes = self._state, np.flatnonzero(self._unreserved_capacity.fits(request))
        if not len(nodes):
            return None
        node = int(nodes[0])
        name = state.snapshot.nodes.name[node]
        rows = {held.deployment_id: held.row for held in state.nominations.on_node(node)}
        head = state.head_reservation if state.head_on(node) is not None else None
        if head is not None:
            rows[head.deployment_id] = head.row
        owners, start = visible_owners(state.quotas, rows, organization), head_start_text(head)
        until = f" (from {start} on)" if start else ""
        shorter = f", or set a max_runtime_seconds that ends before {start}" if start else ""
        return Reason(
            ReasonCode.RESERVED_FOR_ANOTHER,
            f"{name} has enough free capacity, but reserves it for {owners}{until}, which ranks higher",
            nearest_node=name,
            suggestion=f"wait until {owners} has started, or raise the priority above its priority{shorter}",
        )

    @cached_property
    def _unreserved_capacity(self) -> PreemptibleCapacity:
        """The idle capacity per node, without the claims of nominations."""
        capacity = self._state.capacity
        cpu, ram, gpu = capacity.idle_cpu.copy(), capacity.idle_ram.copy(), capacity.idle_gpu.copy()
        for held in self._state.nominations.all():
            cpu[held.node] += held.claim.idle_cpu
            ram[held.node] += held.claim.idle_ram
            gpu[held.node, list(held.devices)] += np.array(held.claim.idle_gpu, np.int64)
        return PreemptibleCapacity(cpu, ram, (gpu == WHOLE_GPU).sum(axis=1), gpu.max(axis=1))
