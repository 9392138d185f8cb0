"""The quotas of organizations on a shared cluster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hypervisor.kernel.resources import WHOLE_GPU, Resources
from hypervisor.scheduling.plan_result import ReasonCode
from hypervisor.scheduling.queueing.quota_usage import QuotaUsage, requested
from hypervisor.scheduling.snapshots.snapshot import NodeTable, Quota
from hypervisor.scheduling.snapshots.wording import described
from hypervisor.simulation.jobs import Job, Rejection

Amounts = tuple[int | None, int | None, int | None]
"""Milli-CPU, MiB and milli-GPU; None for an unset amount."""

NOT_SHARED = -1
_UNLIMITED = 1 << 53


@dataclass(frozen=True, slots=True)
class QuotaTerms:
    """The quota of one organization.

    An unset limit is no limit. An unset part of a guarantee is the same share of the cluster as the largest
    set part, so that guaranteed GPUs come with CPU and RAM.
    """

    organization: str
    guaranteed: Amounts = (None, None, None)
    limit: Amounts = (None, None, None)
    weight: float = 1.0


class OrganizationQuotas:
    """The index of each organization into `quotas`. Without terms the cluster is not shared.

    An organization without terms has no guarantee and no limit.
    """

    def __init__(self, terms: Sequence[QuotaTerms], nodes: NodeTable) -> None:
        self._capacity = (
            int(nodes.cpu_milli.sum()),
            int(nodes.ram_mib.sum()),
            int(nodes.gpu_count.sum()) * WHOLE_GPU,
        )
        self._index_of: dict[str, int] = {}
        self.quotas: tuple[Quota, ...] = ()
        for organization_terms in terms:
            self._add(organization_terms)

    @property
    def is_shared(self) -> bool:
        return bool(self.quotas)

    def index_of(self, organization: str) -> int:
        """The index of an organization; NOT_SHARED when the cluster is not shared."""
        if not self.is_shared:
            return NOT_SHARED
        index = self._index_of.get(organization)
        return self._add(QuotaTerms(organization)) if index is None else index

    def limit_rejection(self, job: Job) -> Rejection | None:
        """A rejection for a job that alone exceeds the limit of its organization; None otherwise."""
        if not self.is_shared:
            return None
        index = self.index_of(job.organization)
        usage = QuotaUsage(self.quotas[index], Resources(), Resources())
        excess = usage.over_limit(requested(job.shape, job.replicas))
        if excess.is_zero:
            return None
        return Rejection(
            ReasonCode.QUOTA_LIMIT.value,
            f"requests {described(excess)} more than the limit of {job.organization}",
        )

    def _add(self, terms: QuotaTerms) -> int:
        index = self._index_of[terms.organization] = len(self.quotas)
        limit = Resources(*(_UNLIMITED if part is None else part for part in terms.limit))
        is_limited = any(part is not None for part in terms.limit)
        guaranteed = self._guarantee(terms.guaranteed)
        quota = Quota(index + 1, guaranteed, limit if is_limited else None, terms.weight)
        self.quotas = (*self.quotas, quota)
        return index

    def _guarantee(self, amounts: Amounts) -> Resources:
        pairs = list(zip(amounts, self._capacity, strict=True))
        shares = [amount / capacity for amount, capacity in pairs if amount and capacity]
        largest = min(1.0, max(shares, default=0.0))
        return Resources(
            *(int(capacity * largest) if amount is None else amount for amount, capacity in pairs)
        )
