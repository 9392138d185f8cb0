"""The state of one pass as data. `transitions` has the few ways in which a pass changes it."""

from __future__ import annotations

from collections.abc import Iterator
from math import isinf

import numpy as np

from hypervisor.scheduling.capacity.working_state import WorkingState
from hypervisor.scheduling.passes.head_reservation import HeadReservation
from hypervisor.scheduling.plan_result import Eviction, Placement, Reprieved
from hypervisor.scheduling.policy import Policy
from hypervisor.scheduling.preemption.candidates import EvictionCandidates
from hypervisor.scheduling.preemption.nominations import ActiveNomination, ActiveNominations
from hypervisor.scheduling.preemption.quota_accounting import QuotaAccounting
from hypervisor.scheduling.preemption.victim_search import VictimSearch
from hypervisor.scheduling.queueing.ordering import queue_order
from hypervisor.scheduling.queueing.queue import Queue, QueueEntry
from hypervisor.scheduling.queueing.queue_iterator import QueueIterator
from hypervisor.scheduling.scoring.node_ranking import NO_NODE, NodeRanking
from hypervisor.scheduling.scoring.registry import scorer_for
from hypervisor.scheduling.snapshots.requests import Eligibility, Request
from hypervisor.scheduling.snapshots.snapshot import Nomination, Snapshot


class PassState:
    """The input of a pass and its decisions so far.

    `placements`, `evictions` and `reprieved` become the plan. `placed` marks the pending rows that start.
    `unplaceable_shapes` are shapes that fit nowhere on idle capacity until capacity is freed.
    """

    def __init__(self, snapshot: Snapshot, policy: Policy) -> None:
        self.snapshot = snapshot
        self.policy = policy
        self.queue = Queue(snapshot, queue_order(snapshot, policy))
        self.iterator = QueueIterator(self.queue)
        self.capacity = WorkingState(snapshot)
        self.eligibility = Eligibility(snapshot.nodes)
        self.scorer = scorer_for(snapshot, policy, self.capacity, self.eligibility)
        self.ranking = NodeRanking(self.capacity, self.scorer, snapshot.shapes, self.eligibility.request)
        self.candidates = EvictionCandidates(snapshot, self.capacity)
        self.nominations = ActiveNominations(self.capacity)
        self.quotas = QuotaAccounting(snapshot, self.queue)
        self.victim_search = VictimSearch(
            snapshot, policy, self.queue, self.capacity, self.candidates, self.nominations, self.quotas
        )
        self.head_reservation: HeadReservation | None = None
        self.placements: list[Placement] = []
        self.evictions: list[Eviction] = []
        self.reprieved: dict[int, tuple[Reprieved, ...]] = {}
        self.placed = np.zeros(len(self.queue.order), np.bool_)
        self.unplaceable_shapes: set[int] = set()
        self._requests: list[Request | None] = [None] * len(snapshot.shapes)

    def request_for(self, shape: int) -> Request:
        """The request of this shape, built once."""
        found = self._requests[shape]
        if found is None:
            found = self._requests[shape] = self.eligibility.request(shape, self.snapshot.shapes[shape])
        return found

    def turns(self) -> Iterator[tuple[int, int]]:
        """(rank, row) of the pending deployments in queue order; nominated ones always get their turn."""
        nominated = sorted({held.row for held in self.nominations.all()})
        return self.iterator.walk(np.array(nominated, np.int64))

    def entry(self, row: int, rank: int, previous: ActiveNomination | None = None) -> QueueEntry:
        """The entry of a pending row; `previous` is a nomination that it has just lost."""
        request = self.request_for(self.queue.shape(row))
        previous_node = NO_NODE if previous is None else previous.node
        return QueueEntry(row, rank, request, self.must_respect_head(row), previous_node)

    def must_respect_head(self, row: int) -> bool:
        """Whether the head's reservation binds this pending row.

        It does not if the head could evict it at once, or if its maximum runtime ends before the head can
        start.
        """
        head = self.head_reservation
        if head is None:
            return False
        longest = self.queue.pending.max_runtime[row]
        if not isinf(head.latest_start) and self.snapshot.now + longest <= head.latest_start:
            return False
        evictable = self.queue.evictable_on_start(row) and self.queue.priority(row) < head.priority
        if self.quotas.organization(row) != head.organization:
            # A head that waits to borrow must not delay the lender.
            return not (head.is_borrower and self.quotas.is_guaranteed(row))
        return not (evictable and self.policy.preemption)

    def head_on(self, node: int) -> HeadReservation | None:
        """What the head reserves on this node, if anything."""
        return None if self.head_reservation is None else self.head_reservation.on_node(node)

    def nominations_for_plan(self) -> tuple[Nomination, ...]:
        """The active nominations in queue order."""
        ids = self.snapshot.nodes.id
        ranked = sorted(self.nominations.all(), key=lambda held: (held.rank, held.replica))
        return tuple(
            Nomination(held.deployment_id, int(ids[held.node]), held.devices, held.replica) for held in ranked
        )
