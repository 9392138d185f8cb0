"""One pass over the queue: who is placed, who is nominated, who is evicted for whom."""

from __future__ import annotations

from collections.abc import Mapping
from math import isinf

import numpy as np

from hypervisor.scheduling.capacity.feasibility import (
    fits_after_release,
    fits_empty_nodes,
    fits_in_room,
    usable_devices,
)
from hypervisor.scheduling.capacity.working_state import WorkingState
from hypervisor.scheduling.passes.backfill import HeadReservation, reserve_for_head
from hypervisor.scheduling.passes.fast_path import FastPath
from hypervisor.scheduling.passes.gang_backfill import reserve_for_gang
from hypervisor.scheduling.passes.gang_placement import GangPlacement
from hypervisor.scheduling.plan_result import Eviction, Placement, Reprieved
from hypervisor.scheduling.policy import Policy
from hypervisor.scheduling.preemption.candidates import EvictionCandidates
from hypervisor.scheduling.preemption.nominations import ActiveNomination, ActiveNominations
from hypervisor.scheduling.preemption.reprieve_reasons import reprieved_on_node, rule_of
from hypervisor.scheduling.preemption.single_node_search import PreemptionOption
from hypervisor.scheduling.preemption.tenancy import Tenancy
from hypervisor.scheduling.preemption.victims import EvictionCandidate
from hypervisor.scheduling.queueing.queue import Queue
from hypervisor.scheduling.queueing.queue_iterator import QueueIterator
from hypervisor.scheduling.scoring.node_ranking import NO_NODE, NodeRanking
from hypervisor.scheduling.scoring.registry import scorer_for
from hypervisor.scheduling.snapshots.requests import Eligibility, Request
from hypervisor.scheduling.snapshots.snapshot import Nomination, Snapshot


class PassState:
    """The state of one pass. `placements`, `evictions` and `spared` grow as the queue is worked through."""

    def __init__(self, snapshot: Snapshot, policy: Policy, queue: Queue) -> None:
        self.snapshot = snapshot
        self.policy = policy
        self.queue = queue
        self.capacity = WorkingState(snapshot)
        self.eligibility = Eligibility(snapshot.nodes)
        self.candidates = EvictionCandidates(snapshot, self.capacity)
        self.nominations = ActiveNominations(self.capacity)
        self.tenancy = Tenancy(snapshot, policy, queue, self.capacity, self.candidates, self.nominations)
        self.head_reservation: HeadReservation | None = None
        self.placements: list[Placement] = []
        self.evictions: list[Eviction] = []
        self.reprieved: dict[int, tuple[Reprieved, ...]] = {}
        self.placed = np.zeros(len(queue.order), np.bool_)
        self._gangs = GangPlacement(self)
        self.scorer = scorer_for(snapshot, policy, self.capacity, self.eligibility)
        self.ranking = NodeRanking(self.capacity, self.scorer, snapshot.shapes, self.eligibility.request)
        self._requests: list[Request | None] = [None] * len(snapshot.shapes)
        self.unplaceable_shapes: set[int] = set()
        self._turns = QueueIterator(queue)

    def request_for(self, shape: int) -> Request:
        found = self._requests[shape]
        if found is None:
            found = self._requests[shape] = self.eligibility.request(shape, self.snapshot.shapes[shape])
        return found

    def nominations_for_plan(self) -> tuple[Nomination, ...]:
        """Those in force, in queue order."""
        ids = self.snapshot.nodes.id
        ranked = sorted(self.nominations.all(), key=lambda held: (held.rank, held.replica))
        return tuple(
            Nomination(held.deployment_id, int(ids[held.node]), held.devices, held.replica) for held in ranked
        )

    def claim_nominations(self) -> None:
        """Put the snapshot's nominations in force, the highest-ranked first, where they can still be met."""
        if not self.snapshot.nominations:
            return
        wanted: dict[int, list[Nomination]] = {}
        for nomination in self.snapshot.nominations:
            wanted.setdefault(nomination.deployment_id, []).append(nomination)
        rows = self.queue.rows_of(set(wanted))
        node_rows = {int(node_id): row for row, node_id in enumerate(self.snapshot.nodes.id)}
        rank_of = np.empty(len(self.queue.order), np.int64)
        rank_of[self.queue.order] = np.arange(len(rank_of))
        for row in sorted(rows.values(), key=lambda row: int(rank_of[row])):
            nominations = wanted[self.queue.deployment_id(row)]
            if len(nominations) == self.queue.replicas(row):
                self._claim(row, int(rank_of[row]), nominations, node_rows)

    def _claim(
        self, row: int, rank: int, nominations: list[Nomination], node_rows: Mapping[int, int]
    ) -> None:
        """Put the nominations of one deployment in force, all of its replicas or none."""
        request = self.request_for(self.queue.shape(row))
        for nomination in sorted(nominations, key=lambda one: one.replica):
            node = node_rows.get(nomination.node_id)
            if node is None or not self.nominations.is_feasible(request, node, nomination.gpu_indices):
                self.drop_nominations(row)
                return
            self.nominate(row, rank, request, node, nomination.gpu_indices, nomination.replica, settled=False)

    def admit_queue(self) -> None:
        """Decide on every pending deployment in turn; kinds that turned out hopeless are passed over."""
        nominated = sorted({held.row for held in self.nominations.all()})
        filling = FastPath(self)
        for rank, row in self._turns.walk(np.array(nominated, np.int64)):
            if filling.is_inadmissible(row):
                self._turns.mark_inadmissible(row)
            elif not filling.try_place(row):
                self._decide(row, rank)

    def _decide(self, row: int, rank: int) -> None:
        request = self.request_for(self.queue.shape(row))
        kept = self.nominations.first_of(row)
        if kept is not None and (
            self._gangs.settle(row) if self.queue.is_gang(row) else self._settle_nomination(kept)
        ):
            return
        restricted = self.must_respect_head(row)
        if not self.tenancy.over_limit(row).is_zero:
            # Its organization's own lower work may give way to it; it is never the head that others wait for.
            if not self._gangs.admit_within_limit(row, rank, request, restricted):
                self._turns.mark_inadmissible(row)
            return
        if self.queue.is_gang(row):
            if self._gangs.admit(row, rank, request, restricted):
                return
        elif (
            self._place_in_free(row, request, restricted)
            or self._nominate_on_releasing(row, rank, request, restricted, kept)
            or self._preempt(row, rank, request, restricted)
        ):
            return
        self._turns.mark_inadmissible(row)
        if self.head_reservation is None:
            self._reserve_for_head(row, rank, request)

    def _settle_nomination(self, kept: ActiveNomination) -> bool:
        """Start a nominated deployment on its node, else elsewhere; keep the nomination if neither goes.

        False if the nomination can no longer be met: it is dropped and the deployment decided anew.
        """
        row, node, request = kept.row, kept.node, kept.request
        self.drop_nominations(row)
        state = self.capacity
        free = state.idle_gpu[node].tolist()
        starts = self.tenancy.may_start_now(row)
        if starts and fits_in_room(request, int(state.idle_cpu[node]), int(state.idle_ram[node]), free):
            usable = usable_devices(request, free) if request.device_count else []
            same = set(kept.devices).issubset(usable)
            self.place(row, request, node, kept.devices if same else self.pick_devices(request, node, usable))
            if not same:
                self.on_capacity_freed()
            return True
        if self._place_in_free(row, request, self.must_respect_head(row)):
            self.on_capacity_freed()
            return True
        if self.nominations.is_feasible(request, node, kept.devices):
            self.nominate(row, kept.rank, request, node, kept.devices)
            return True
        self.on_capacity_freed()
        return False

    def must_respect_head(self, row: int) -> bool:
        """Whether the head's hold binds this one: the head could not evict it at once if it started, and it
        is not sure to have ended when the head can start."""
        hold = self.head_reservation
        if hold is None:
            return False
        if (
            not isinf(hold.latest_start)
            and self.snapshot.now + self.queue.pending.max_runtime[row] <= hold.latest_start
        ):
            return False
        evictable = self.queue.evictable_on_start(row) and self.queue.priority(row) < hold.priority
        if self.tenancy.organization(row) != hold.organization:
            # Who waits to borrow does not hold up the lender.
            return not (hold.is_borrower and self.tenancy.is_guaranteed(row))
        return not (evictable and self.policy.preemption)

    def _place_in_free(self, row: int, request: Request, restricted: bool) -> bool:
        if request.index in self.unplaceable_shapes or not self.tenancy.may_start_now(row):
            return False
        node = self.ranking.best_node(request)
        if node == NO_NODE:
            self.unplaceable_shapes.add(request.index)
            return False
        # A gang at the head may hold several nodes; what takes from it on one may be harmless on the next.
        passed: list[int] = []
        while node != NO_NODE:
            devices = self._free_devices(request, node, restricted)
            if devices is not None:
                self.place(row, request, node, devices)
                return True
            passed.append(node)
            node = self.ranking.best_node(request, without=passed)
        return False

    def _free_devices(self, request: Request, node: int, restricted: bool) -> tuple[int, ...] | None:
        """Devices of the node to start on; None if every choice would take from the head."""
        usable = (
            usable_devices(request, self.capacity.idle_gpu[node].tolist()) if request.device_count else []
        )
        hold = (
            self.head_reservation.on_node(node) if self.head_reservation is not None and restricted else None
        )
        if hold is None:
            return self.pick_devices(request, node, usable)
        if request.device_count == 1 and not request.whole_devices:
            ranked = self.scorer.rank_devices(request, node, usable)
            return next(((device,) for device in ranked if hold.allows(request, (device,))), None)
        devices = tuple(usable[: request.device_count])
        return devices if hold.allows(request, devices) else None

    def pick_devices(self, request: Request, node: int, usable: list[int]) -> tuple[int, ...]:
        if request.whole_devices or len(usable) < 2:
            return tuple(usable[: request.device_count])
        return (self.scorer.rank_devices(request, node, usable)[0],)

    def place(
        self, row: int, request: Request, node: int, devices: tuple[int, ...], replica: int = 0
    ) -> None:
        """Start a replica now."""
        self.capacity.place(node, request, devices)
        self.tenancy.record_start(row, request)
        self._charge_head(row, request, node, devices)
        self.placed[row] = True
        node_id = int(self.snapshot.nodes.id[node])
        self.placements.append(Placement(self.queue.deployment_id(row), node_id, devices, replica))

    def _nominate_on_releasing(
        self, row: int, rank: int, request: Request, restricted: bool, kept: ActiveNomination | None
    ) -> bool:
        """Nominate where what is free and what is coming suffice; nobody is evicted for that."""
        state = self.capacity
        if not state.has_releasing:
            return False
        fitting = np.flatnonzero(fits_after_release(state, request)).tolist()
        if kept is not None and kept.node in fitting:
            fitting.insert(0, kept.node)
        for node in fitting:
            devices = self.devices_after_release(request, node)
            if self._head_allows(request, node, devices, restricted):
                self.nominate(row, rank, request, node, devices)
                return True
        return False

    def devices_after_release(self, request: Request, node: int) -> tuple[int, ...]:
        """Devices that are or will be free: for whole ones those free by now first, for a fraction the
        tightest."""
        if not request.device_count:
            return ()
        free = self.capacity.idle_gpu[node].tolist()
        room = (self.capacity.idle_gpu[node] + self.capacity.releasing_gpu[node]).tolist()
        usable = usable_devices(request, room)
        usable.sort(key=lambda index: (room[index], -free[index], index))
        return tuple(sorted(usable[: request.device_count]))

    def _preempt(self, row: int, rank: int, request: Request, restricted: bool) -> bool:
        without = self._closed_node(request, restricted)
        for _ in range(2):
            option = self.tenancy.find_victims(row, rank, request, without)
            if option is None:
                return False
            if self._head_allows(
                request, option.node, self._devices_after_eviction(request, option), restricted
            ):
                self._apply_preemption(row, rank, request, option)
                return True
            without = option.node
        return False

    def _closed_node(self, request: Request, restricted: bool) -> int:
        """The held node, where it depends on the victims whether the hold allows the request there: who the
        cheapest ones are changes as time goes by, and by that alone nobody may be let in."""
        hold = self.head_reservation
        if hold is None or not restricted or hold.allows_any_devices(request):
            return NO_NODE
        return hold.node

    def _devices_after_eviction(self, request: Request, option: PreemptionOption) -> tuple[int, ...]:
        """The devices that the request gets once the victims are gone."""
        if not request.device_count:
            return ()
        node = option.node
        room = (self.capacity.idle_gpu[node] + self.capacity.releasing_gpu[node]).tolist()
        free = self.capacity.idle_gpu[node].tolist()
        for victim in option.victims:
            for device in victim.devices:
                room[device] += victim.milli_per_device
        usable = usable_devices(request, room)
        usable.sort(key=lambda index: (room[index], -free[index], index))
        return tuple(sorted(usable[: request.device_count]))

    def _apply_preemption(self, row: int, rank: int, request: Request, option: PreemptionOption) -> None:
        """Evict and override, then start at once if only nominations stood in the way, else nominate."""
        node, deployment_id = option.node, self.queue.deployment_id(row)
        priority = self.queue.priority(row)
        evicted = [victim for victim in option.victims if victim.row >= 0]
        if evicted:
            self.reprieved[deployment_id] = reprieved_on_node(
                self.candidates, self.snapshot.now, node, priority, evicted
            )
        for victim in evicted:
            rule = option.rules.get(victim.row) or rule_of(priority, victim.priority)
            self.evict(victim, deployment_id, rule)
        overridden = {victim.id for victim in option.victims if victim.row < 0}
        for held in [held for held in self.nominations.on_node(node) if held.deployment_id in overridden]:
            self.drop_nominations(held.row)
        free = self.capacity.idle_gpu[node].tolist()
        room = int(self.capacity.idle_cpu[node]), int(self.capacity.idle_ram[node])
        if not evicted and self.tenancy.may_start_now(row) and fits_in_room(request, *room, free):
            usable = usable_devices(request, free) if request.device_count else []
            self.place(row, request, node, self.pick_devices(request, node, usable))
        else:
            self.nominate(row, rank, request, node, self.devices_after_release(request, node))
        if overridden:
            self.on_capacity_freed()

    def evict(self, victim: EvictionCandidate, preemptor_id: int, rule: str) -> None:
        """Evict all allocations of the victim, on other nodes as well where it is a gang."""
        table = self.snapshot.allocations
        for row in self.candidates.evict(victim):
            self.tenancy.record_eviction(row)
            self.evictions.append(
                Eviction(
                    allocation_id=int(table.id[row]),
                    deployment_id=int(table.deployment_id[row]),
                    node_id=int(self.snapshot.nodes.id[table.node[row]]),
                    preemptor_id=preemptor_id,
                    lost_work=float(self.candidates.lost_work[row]),
                    rule=rule,
                )
            )

    def nominate(
        self,
        row: int,
        rank: int,
        request: Request,
        node: int,
        devices: tuple[int, ...],
        replica: int = 0,
        settled: bool = True,
    ) -> None:
        """Keep capacity of a node, free or coming, for a replica."""
        self.tenancy.record_nomination(row, request)
        self._charge_head(row, request, node, devices)
        self.nominations.add(
            ActiveNomination(
                row=row,
                rank=rank,
                deployment_id=self.queue.deployment_id(row),
                priority=self.queue.priority(row),
                evictable_on_start=self.queue.evictable_on_start(row),
                request=request,
                node=node,
                devices=devices,
                claim=self.capacity.claim(node, request, devices),
                replica=replica,
            ),
            settled,
        )

    def drop_nominations(self, row: int) -> None:
        """Let go of what is kept for the deployment, for all of its replicas."""
        for held in self.nominations.drop(row):
            self.tenancy.record_withdrawal(row, held.request)
            hold = self.head_reservation.on_node(held.node) if self.head_reservation is not None else None
            if hold is not None and self.must_respect_head(row):
                hold.refund(held.request, held.devices)

    def _reserve_for_head(self, row: int, rank: int, request: Request) -> None:
        admissible = fits_empty_nodes(self.snapshot.nodes, request, request.eligible)
        if admissible.any() and self._gangs.may_ever_fit(row, request):
            head = self.queue.deployment_id(row), self.queue.priority(row), rank
            wanted = self.queue.replicas(row), self.queue.spread(row)
            now, preempts = self.snapshot.now, self.policy.preemption
            parts = (self.capacity, self.candidates, self.nominations)
            if self.queue.is_gang(row):
                self.head_reservation = reserve_for_gang(
                    head, request, wanted, admissible, *parts, now=now, preempts=preempts
                )
            else:
                self.head_reservation = reserve_for_head(
                    head, request, admissible, *parts, now=now, preempts=preempts
                )
            self.head_reservation.row, self.head_reservation.organization = (
                row,
                self.tenancy.organization(row),
            )
            self.head_reservation.is_borrower = not self.tenancy.is_guaranteed(row)

    def renew_head_reservation(self) -> None:
        """Let the head of what still waits hold its place anew, the placements being others now."""
        self.head_reservation = None
        tried: set[int] = set()
        order = self.queue.order
        for rank in np.flatnonzero(~self.placed[order]).tolist():
            row = int(order[rank])
            kind = int(self.queue.equivalence_class[row])
            if kind in tried or self.nominations.of_row(row) or not self.tenancy.over_limit(row).is_zero:
                continue
            tried.add(kind)
            self._reserve_for_head(row, rank, self.request_for(self.queue.shape(row)))
            if self.head_reservation is not None:
                return

    def _head_allows(self, request: Request, node: int, devices: tuple[int, ...], restricted: bool) -> bool:
        hold = (
            self.head_reservation.on_node(node) if self.head_reservation is not None and restricted else None
        )
        return hold is None or hold.allows(request, devices)

    def _charge_head(self, row: int, request: Request, node: int, devices: tuple[int, ...]) -> None:
        hold = self.head_reservation.on_node(node) if self.head_reservation is not None else None
        if hold is not None and self.must_respect_head(row):
            hold.consume(request, devices)

    def on_capacity_freed(self) -> None:
        """Forget what was found impossible, as capacity has come back."""
        self.capacity.invalidate()
        self.unplaceable_shapes.clear()
        self._turns.on_capacity_freed()
