"""Whose work it is, as far as one pass has to respect that; nothing to do where no cluster is shared."""

from __future__ import annotations

from hypervisor.kernel.resources import Resources
from hypervisor.scheduling.capacity.working_state import WorkingState
from hypervisor.scheduling.policy import Policy
from hypervisor.scheduling.preemption.candidates import EvictionCandidates
from hypervisor.scheduling.preemption.eviction_rules import Preemptor
from hypervisor.scheduling.preemption.gang import GangRoom
from hypervisor.scheduling.preemption.gang_search import GroupCandidate
from hypervisor.scheduling.preemption.nominations import ActiveNomination, ActiveNominations
from hypervisor.scheduling.preemption.quota_search import QuotaAwarePreemption
from hypervisor.scheduling.preemption.single_node_search import MinCostPreemption, PreemptionOption
from hypervisor.scheduling.queueing.queue import Queue
from hypervisor.scheduling.queueing.quota_usage import QuotaLedger, allocated, requested
from hypervisor.scheduling.scoring.node_ranking import NO_NODE
from hypervisor.scheduling.snapshots.requests import Request
from hypervisor.scheduling.snapshots.snapshot import Snapshot

_NOTHING = Resources()


class Tenancy:
    """Limits, usage and legality for the deployments of a pass, by pending row."""

    def __init__(
        self,
        snapshot: Snapshot,
        policy: Policy,
        queue: Queue,
        state: WorkingState,
        candidates: EvictionCandidates,
        reservations: ActiveNominations,
    ) -> None:
        self.ledger = QuotaLedger(snapshot) if snapshot.quotas else None
        self._snapshot = snapshot
        self._queue = queue
        self._plain = MinCostPreemption(state, candidates, reservations, policy.preemption)
        self._careful: QuotaAwarePreemption | None = None
        if snapshot.quotas or snapshot.frozen_pairs:
            self._careful = QuotaAwarePreemption(
                snapshot, state, candidates, reservations, self.ledger, policy.preemption
            )
            self._amounts = allocated(snapshot)

    def organization(self, row: int) -> int:
        return int(self._snapshot.pending.organization[row])

    def demand(self, row: int) -> Resources:
        """What all replicas of the deployment hold together."""
        shape = self._snapshot.shapes[self._queue.shape(row)]
        return requested(shape, self._queue.replicas(row))

    def over_limit(self, row: int) -> Resources:
        """By how much it would lift its organization above its limit once the plan so far has come true."""
        if self.ledger is None:
            return _NOTHING
        return self.ledger.projected(self.organization(row)).over_limit(self.demand(row))

    def is_guaranteed(self, row: int) -> bool:
        """Whether its organization's guarantee covers it; of nobody's where nothing is shared."""
        if self.ledger is None:
            return False
        return self.ledger.projected(self.organization(row)).is_guaranteed(self.demand(row))

    def may_start_now(self, row: int) -> bool:
        """Whether its organization stays within its limit with everything that holds capacity now."""
        if self.ledger is None:
            return True
        account = self.ledger.current(self.organization(row))
        return account.over_limit(self.demand(row)).is_zero

    def find_victims(
        self, row: int, rank: int, request: Request, without: int = NO_NODE
    ) -> PreemptionOption | None:
        """The best node with the victims that the deployment needs there, or None."""
        if self._careful is None or not self.depends_on_owner(row):
            return self._plain.find(request, self._queue.priority(row), rank, without)
        return self._careful.find(request, self.preemptor(row, rank), without)

    def depends_on_owner(self, row: int) -> bool:
        """Whether it matters for this deployment whose work a victim is."""
        return self._careful is not None and self._careful.applies_to(self._queue.deployment_id(row))

    def find_victim_groups(self, row: int, rank: int, room: GangRoom) -> list[GroupCandidate] | None:
        """Who must yield, on whatever node, so that all its replicas fit into the room and its organization
        keeps its limit; None if that cannot be had."""
        if self._careful is None:
            return None
        return self._careful.find_groups(
            self.preemptor(row, rank), room, self._queue.replicas(row), self.over_limit(row)
        )

    def preemptor(self, row: int, rank: int) -> Preemptor:
        organization = self.organization(row)
        return Preemptor(
            deployment_id=self._queue.deployment_id(row),
            organization=organization,
            priority=self._queue.priority(row),
            rank=rank,
            demand=self.demand(row),
            quota_usage=None if self.ledger is None else self.ledger.projected(organization),
        )

    def may_override(self, held: ActiveNomination, row: int, rank: int) -> bool:
        """Whether a nomination that ranks lower has to give way to this deployment."""
        return self._careful is None or self._careful.may_override(held, self.preemptor(row, rank))

    def record_start(self, row: int, request: Request) -> None:
        """A replica was placed."""
        if self.ledger is not None:
            self.ledger.record_start(self.organization(row), requested(request.shape))

    def record_nomination(self, row: int, request: Request) -> None:
        """A replica was nominated."""
        if self.ledger is not None:
            self.ledger.record_nomination(self.organization(row), requested(request.shape))

    def record_withdrawal(self, row: int, request: Request) -> None:
        """The nomination of a replica was given up."""
        if self.ledger is not None:
            self.ledger.record_withdrawal(self.organization(row), requested(request.shape))

    def record_eviction(self, allocation_row: int) -> None:
        """An allocation was asked to go."""
        if self.ledger is not None:
            organization = int(self._snapshot.allocations.organization[allocation_row])
            self.ledger.record_withdrawal(organization, Resources(*self._amounts[allocation_row].tolist()))
