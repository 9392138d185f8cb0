"""Limits and usage of the organizations for one pass, by pending row. Without quotas nothing is limited."""

from __future__ import annotations

from hypervisor.kernel.resources import Resources
from hypervisor.scheduling.queueing.queue import Queue
from hypervisor.scheduling.queueing.quota_usage import QuotaLedger, allocated, requested
from hypervisor.scheduling.snapshots.requests import Request
from hypervisor.scheduling.snapshots.snapshot import Snapshot

_NOTHING = Resources()


class QuotaAccounting:
    """Limits and usage by pending row; updates the ledger. `ledger` is None without quotas."""

    def __init__(self, snapshot: Snapshot, queue: Queue) -> None:
        self.ledger = QuotaLedger(snapshot) if snapshot.quotas else None
        self._snapshot = snapshot
        self._queue = queue
        self._amounts = allocated(snapshot) if snapshot.quotas else None

    def organization(self, row: int) -> int:
        """The index of its organization's quota; -1 where no quota applies."""
        return int(self._snapshot.pending.organization[row])

    def demand(self, row: int) -> Resources:
        """The amount of all replicas of the deployment."""
        shape = self._snapshot.shapes[self._queue.shape(row)]
        return requested(shape, self._queue.replicas(row))

    def over_limit(self, row: int) -> Resources:
        """By how much it would exceed its organization's limit after the plan so far."""
        if self.ledger is None:
            return _NOTHING
        return self.ledger.projected(self.organization(row)).over_limit(self.demand(row))

    def is_guaranteed(self, row: int) -> bool:
        """Whether its organization's guarantee covers it; False without quotas."""
        if self.ledger is None:
            return False
        return self.ledger.projected(self.organization(row)).is_guaranteed(self.demand(row))

    def may_start_now(self, row: int) -> bool:
        """Whether its organization stays within its limit, counting everything that holds capacity now."""
        if self.ledger is None:
            return True
        return self.ledger.current(self.organization(row)).over_limit(self.demand(row)).is_zero

    def record_start(self, row: int, request: Request) -> None:
        """Note that a replica was placed."""
        if self.ledger is not None:
            self.ledger.record_start(self.organization(row), requested(request.shape))

    def record_nomination(self, row: int, request: Request) -> None:
        """Note that a replica was nominated."""
        if self.ledger is not None:
            self.ledger.record_nomination(self.organization(row), requested(request.shape))

    def record_withdrawal(self, row: int, request: Request) -> None:
        """Note that the nomination of a replica was withdrawn."""
        if self.ledger is not None:
            self.ledger.record_withdrawal(self.organization(row), requested(request.shape))

    def record_eviction(self, allocation_row: int) -> None:
        """Note that an allocation was evicted."""
        if self.ledger is not None and self._amounts is not None:
            organization = int(self._snapshot.allocations.organization[allocation_row])
            amount = Resources(*self._amounts[allocation_row].tolist())
            self.ledger.record_withdrawal(organization, amount)
