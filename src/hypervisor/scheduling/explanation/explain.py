"""A reason for everything that waits: worked out per shape, told per kind, never per deployment."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hypervisor.kernel.resources import MILLI, WHOLE_GPU, Resources
from hypervisor.scheduling.capacity.shortfall import shortfall_distance
from hypervisor.scheduling.decision_codec.lazy_unplaced import LazyUnplaced
from hypervisor.scheduling.explanation.gang_reason import gang_reason
from hypervisor.scheduling.explanation.infeasibility import infeasibility
from hypervisor.scheduling.explanation.shared_reasons import (
    head_reason,
    head_start_text,
    limit_reason,
    visible_owners,
)
from hypervisor.scheduling.passes.pass_state import PassState
from hypervisor.scheduling.plan_result import Reason, ReasonCode, Unplaced
from hypervisor.scheduling.preemption.candidates import PreemptibleRoom
from hypervisor.scheduling.preemption.nominations import ActiveNomination
from hypervisor.scheduling.preemption.victims import EvictionCandidate, choose_victims
from hypervisor.scheduling.scoring.score_classes import score_classes
from hypervisor.scheduling.snapshots.requests import Constraint, Request, constraint_of
from hypervisor.scheduling.snapshots.snapshot import Bool
from hypervisor.scheduling.snapshots.wording import described, gaps, listed

_MOST_NAMED = 3


@dataclass(frozen=True, slots=True)
class _Shortage:
    """What is missing for a shape on its nearest node, whatever its priority."""

    node: int
    missing: Resources
    free: Resources
    victims: tuple[EvictionCandidate, ...]


def explain_unplaced(state: PassState) -> Sequence[Unplaced]:
    """Everything that is not placed, in queue order, with its reason."""
    queue = state.queue
    rows = queue.order[~state.placed[queue.order]]
    return LazyUnplaced(queue.pending.deployment_id[rows], rows, Explainer(state).reason_for_row)


class Explainer:
    """Reasons at the end of a pass. Work that depends on the shape alone is done once a shape."""

    def __init__(self, state: PassState) -> None:
        self._state = state
        self._snapshot = state.snapshot
        self._capacity = state.capacity
        self._shapes: dict[tuple[int, int], Reason | _Shortage] = {}
        self._kinds: dict[int, Reason] = {}
        self._nearest: dict[int, int] = {}
        self._totals: dict[Constraint, Resources] = {}
        self._unreserved: PreemptibleRoom | None = None
        self._leaving_on: dict[int, set[int]] | None = None

    def reason_for_row(self, row: int) -> Reason:
        """Why this pending row was not placed; all of a kind that are not nominated share one reason."""
        kept = self._state.nominations.of_row(row)
        if kept:
            return self.reason_for_nominated(kept)
        hold = self._state.head_reservation
        if hold is not None and self._state.queue.deployment_id(row) == hold.deployment_id:
            return head_reason(self._snapshot, hold, self.reason_for_class(row))
        queue = self._state.queue
        kind = int(queue.equivalence_class[row])
        found = self._kinds.get(kind)
        if found is None:
            found = self._kinds[kind] = self.reason_for_class(int(queue.representative[kind]))
        return found

    @cached_property
    def _stands_for(self) -> list[int]:
        """Per shape the first of its score class; that does not depend on what is asked first."""
        firsts: dict[int, int] = {}
        class_of, _ = score_classes(self._snapshot.shapes)
        return [firsts.setdefault(number, index) for index, number in enumerate(class_of)]

    def reason_for_class(self, row: int) -> Reason:
        """Why this kind, of which `row` is a member, was neither placed nor nominated."""
        queue = self._state.queue
        request = self._state.request_for(queue.shape(row))
        limited = limit_reason(self._state.quotas, row)
        if limited is not None:
            return self._never(request, queue.replicas(row)) or limited
        if queue.is_gang(row):
            never = self._never(request, queue.replicas(row))
            return never or gang_reason(
                self._state, request, queue.replicas(row), self._state.quotas.organization(row)
            )
        organization = self._state.quotas.organization(row)
        found = self._shapes.get((request.index, organization))
        if found is None:
            found = self._shapes[request.index, organization] = self._of_shape(request, organization)
        if isinstance(found, Reason):
            return found
        return self._short(request, found, queue.priority(row))

    def reason_for_nominated(self, kept: Sequence[ActiveNomination]) -> Reason:
        """It has its place (a gang all of its places), and waits for those who leave it."""
        nodes = sorted({held.node for held in kept})
        names = [self._snapshot.nodes.name[node] for node in nodes]
        leaving = len(set().union(*(self._leaving(node) for node in nodes)))
        count = f"{leaving} deployment" + (" has" if leaving == 1 else "s have")
        coming = Resources()
        for held in kept:
            claim = held.claim
            coming += Resources(claim.releasing_cpu, claim.releasing_ram, sum(claim.releasing_gpu))
        place = "place" if len(kept) == 1 else f"{len(kept)} places"
        return Reason(
            ReasonCode.WAITING_FOR_VICTIMS,
            f"has its {place} on {listed(names)} and starts as soon as {count} there stopped",
            shortfall=coming,
            nearest_node=names[0],
            suggestion="nothing to do: it starts by itself",
        )

    def _leaving(self, node: int) -> set[int]:
        """The deployments that are on their way out there."""
        if self._leaving_on is None:
            self._leaving_on = defaultdict(set)
            table, ids = self._snapshot.allocations, self._snapshot.nodes.id
            for row in np.flatnonzero(table.releasing).tolist():
                self._leaving_on[int(ids[table.node[row]])].add(int(table.deployment_id[row]))
            for item in self._state.evictions:
                self._leaving_on[item.node_id].add(item.deployment_id)
        return self._leaving_on[int(self._snapshot.nodes.id[node])]

    def _never(self, request: Request, replicas: int = 1) -> Reason | None:
        """What no end of other work can cure."""
        never = infeasibility(self._snapshot.nodes, self._state.eligibility, request.shape, replicas)
        if never is not None:
            return never
        if not request.eligible.any():
            return Reason(
                ReasonCode.NO_SCHEDULABLE_NODE,
                "every node that it may use is cordoned, draining or unreachable",
                request.shape.resources,
                suggestion="make a node schedulable again",
            )
        return None

    def _of_shape(self, request: Request, organization: int) -> Reason | _Shortage:
        never = self._never(request)
        if never is not None:
            return never
        kept = self._kept_for_another(request, organization)
        return kept if kept is not None else self._shortage(request, organization)

    def _kept_for_another(self, request: Request, organization: int) -> Reason | None:
        """Where it would fit if nothing were reserved or held there."""
        nodes = np.flatnonzero(self._without_reservations().fits(request))
        if not len(nodes):
            return None
        node = int(nodes[0])
        name = self._snapshot.nodes.name[node]
        state = self._state
        rows = {held.deployment_id: held.row for held in state.nominations.on_node(node)}
        hold = (
            state.head_reservation
            if state.head_reservation is not None and state.head_reservation.on_node(node)
            else None
        )
        if hold is not None:
            rows[hold.deployment_id] = hold.row
        shown = visible_owners(state.quotas, rows, organization)
        start = head_start_text(hold)
        shorter = f", or give it a max_runtime_seconds that ends it before {start}" if start else ""
        until = f" (from {start} on)" if start else ""
        return Reason(
            ReasonCode.RESERVED_FOR_ANOTHER,
            f"{name} has room for it, but keeps it for {shown}{until}, which ranks higher",
            nearest_node=name,
            suggestion=f"wait until {shown} has started, or raise the priority above its{shorter}",
        )

    def _without_reservations(self) -> PreemptibleRoom:
        if self._unreserved is None:
            capacity = self._capacity
            cpu, ram_room, gpu = capacity.idle_cpu.copy(), capacity.idle_ram.copy(), capacity.idle_gpu.copy()
            for held in self._state.nominations.all():
                cpu[held.node] += held.claim.idle_cpu
                ram_room[held.node] += held.claim.idle_ram
                gpu[held.node, list(held.devices)] += np.array(held.claim.idle_gpu, np.int64)
            full = (gpu == WHOLE_GPU).sum(axis=1)
            self._unreserved = PreemptibleRoom(cpu, ram_room, full, gpu.max(axis=1))
        return self._unreserved

    def _shortage(self, request: Request, organization: int) -> _Shortage:
        capacity, node = self._capacity, self._nearest_node(request)
        free_gpu = (
            int(capacity.whole_gpus[node]) * MILLI
            if request.whole_devices
            else max(0, int(capacity.largest_fraction[node]))
        )
        free = Resources(max(0, int(capacity.idle_cpu[node])), max(0, int(capacity.idle_ram[node])), free_gpu)
        room = (int(capacity.idle_cpu[node]), int(capacity.idle_ram[node]), capacity.idle_gpu[node].tolist())
        evictable = self._state.candidates.evictable
        owner = self._snapshot.allocations.organization
        running = [
            item
            for item in self._state.candidates.on_node(node)
            if evictable[item.row] and int(owner[item.row]) == organization
        ]
        victims = choose_victims(request, *room, running) if self._state.policy.preemption else None
        return _Shortage(node, request.shape.resources.shortfall(free), free, tuple(victims or ()))

    def _nearest_node(self, request: Request) -> int:
        """The eligible node with the least missing; shapes that share a score class share their first's."""
        first = self._stands_for[request.index]
        if first not in self._nearest:
            self._nearest[first] = self._least_distant(self._state.request_for(first))
        return self._nearest[first]

    def _least_distant(self, request: Request) -> int:
        capacity = self._capacity
        room = capacity.whole_gpus if request.whole_devices else capacity.largest_fraction
        distance = shortfall_distance(request, capacity.idle_cpu, capacity.idle_ram, room)
        return int(np.where(request.eligible, distance, np.inf).argmin())

    def _short(self, request: Request, shortage: _Shortage, priority: int) -> Reason:
        name = self._snapshot.nodes.name[shortage.node]
        code = self._code(request)
        sentence = f"needs {described(request.shape.resources)}; the nearest node {name} has "
        sentence += listed(gaps(shortage.free, shortage.missing))
        ahead = self._not_lower(shortage.node, priority)
        if code is ReasonCode.FRAGMENTED:
            sentence += "; the free capacity of all nodes together would do, but no single node has it"
        elif ahead:
            sentence += (
                f"; {ahead} of the same or a higher priority run" + ("s" if ahead == 1 else "") + " there"
            )
        return Reason(
            code, sentence, shortage.missing, name, self._suggestion(request, shortage, priority, name)
        )

    def _code(self, request: Request) -> ReasonCode:
        """The scarcest resource whose free total does not suffice, else fragmentation."""
        key = constraint_of(request.shape)
        total = self._totals.get(key)
        if total is None:
            total = self._totals[key] = self._free_total(request.eligible)
        if total.gpu_milli < request.shape.gpu_milli:
            return ReasonCode.INSUFFICIENT_GPU
        if total.ram_mib < request.ram:
            return ReasonCode.INSUFFICIENT_RAM
        if total.cpu_milli < request.cpu:
            return ReasonCode.INSUFFICIENT_CPU
        return ReasonCode.FRAGMENTED

    def _free_total(self, eligible: Bool) -> Resources:
        capacity = self._capacity
        return Resources(
            int(np.maximum(capacity.idle_cpu, 0)[eligible].sum()),
            int(np.maximum(capacity.idle_ram, 0)[eligible].sum()),
            int(np.maximum(capacity.idle_gpu, 0)[eligible].sum()),
        )

    def _not_lower(self, node: int, priority: int) -> int:
        return sum(item.priority >= priority for item in self._state.candidates.on_node(node))

    def _suggestion(self, request: Request, shortage: _Shortage, priority: int, name: str) -> str:
        options = [f"free {described(shortage.missing)} on {name}"]
        if _fits_when_lowered(shortage):
            options.append(f"lower the request to {_lowered(request, shortage)}")
        level = max((victim.priority for victim in shortage.victims), default=-1)
        if level >= priority and level < 1000:
            table = self._snapshot.allocations
            ids = sorted({int(table.deployment_id[victim.row]) for victim in shortage.victims})
            who = f"{len(ids)} deployments" if len(ids) > _MOST_NAMED else _named(ids)
            options.append(f"raise the priority above {level}: evicting {who} would be enough")
        return ", or ".join(options)


def _named(deployment_ids: list[int]) -> str:
    plural = "s" if len(deployment_ids) > 1 else ""
    return f"deployment{plural} {listed([str(id_) for id_ in deployment_ids])}"


def _fits_when_lowered(shortage: _Shortage) -> bool:
    """Whether something of every short resource is left to ask for."""
    free, missing = shortage.free, shortage.missing
    return not (
        (missing.gpu_milli and not free.gpu_milli)
        or (missing.ram_mib and not free.ram_mib)
        or (missing.cpu_milli and not free.cpu_milli)
    )


def _lowered(request: Request, shortage: _Shortage) -> str:
    free, missing = shortage.free, shortage.missing
    return described(
        Resources(
            free.cpu_milli if missing.cpu_milli else 0,
            free.ram_mib if missing.ram_mib else 0,
            free.gpu_milli if missing.gpu_milli else 0,
        )
    )
