"""Victims for one pending deployment, by the search that its cluster needs.

`MinCostPreemption` serves clusters of one organization. `QuotaAwarePreemption` serves shared clusters, and
deployments that have a frozen pair.
"""

from __future__ import annotations

from hypervisor.scheduling.capacity.working_state import WorkingState
from hypervisor.scheduling.policy import Policy
from hypervisor.scheduling.preemption.candidates import EvictionCandidates
from hypervisor.scheduling.preemption.eviction_groups import GangEvictionTrial
from hypervisor.scheduling.preemption.eviction_rules import Preemptor
from hypervisor.scheduling.preemption.group_candidates import GroupCandidate
from hypervisor.scheduling.preemption.nominations import ActiveNominations
from hypervisor.scheduling.preemption.quota_accounting import QuotaAccounting
from hypervisor.scheduling.preemption.quota_search import QuotaAwarePreemption
from hypervisor.scheduling.preemption.single_node_search import MinCostPreemption, PreemptionOption
from hypervisor.scheduling.queueing.queue import Queue
from hypervisor.scheduling.scoring.node_ranking import NO_NODE
from hypervisor.scheduling.snapshots.requests import Request
from hypervisor.scheduling.snapshots.snapshot import Snapshot


class VictimSearch:
    """Finds victims by pending row."""

    def __init__(
        self,
        snapshot: Snapshot,
        policy: Policy,
        queue: Queue,
        capacity: WorkingState,
        candidates: EvictionCandidates,
        nominations: ActiveNominations,
        quotas: QuotaAccounting,
    ) -> None:
        self._queue = queue
        self._quotas = quotas
        self._min_cost = MinCostPreemption(capacity, candidates, nominations, policy.preemption)
        self._quota_aware: QuotaAwarePreemption | None = None
        if snapshot.quotas or snapshot.frozen_pairs:
            self._quota_aware = QuotaAwarePreemption(
                snapshot, capacity, candidates, nominations, quotas.ledger, policy.preemption
            )

    def find(self, row: int, rank: int, request: Request, without: int = NO_NODE) -> PreemptionOption | None:
        """The best node, except `without`, with the victims that the deployment needs there, or None."""
        if self._quota_aware is None or not self.depends_on_owner(row):
            return self._min_cost.find(request, self._queue.priority(row), rank, without)
        return self._quota_aware.find(request, self._preemptor(row, rank), without)

    def depends_on_owner(self, row: int) -> bool:
        """Whether the owner of a victim matters for this deployment."""
        return self._quota_aware is not None and self._quota_aware.applies_to(self._queue.deployment_id(row))

    def find_groups(self, row: int, rank: int, trial: GangEvictionTrial) -> list[GroupCandidate] | None:
        """Victims on any nodes: without them all replicas fit, and the organization keeps its limit.

        None without such a set.
        """
        if self._quota_aware is None:
            return None
        return self._quota_aware.find_groups(
            self._preemptor(row, rank), trial, self._queue.replicas(row), self._quotas.over_limit(row)
        )

    def _preemptor(self, row: int, rank: int) -> Preemptor:
        quotas, organization = self._quotas, self._quotas.organization(row)
        return Preemptor(
            deployment_id=self._queue.deployment_id(row),
            organization=organization,
            priority=self._queue.priority(row),
            rank=rank,
            demand=quotas.demand(row),
            quota_usage=None if quotas.ledger is None else quotas.ledger.projected(organization),
        )
