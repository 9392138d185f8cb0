"""Who shares the simulated cluster, and on which terms."""

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
"""Milli-CPU, MiB and milli-GPU; None where nothing is said."""

NOT_SHARED = -1
_UNLIMITED = 1 << 53


@dataclass(frozen=True, slots=True)
class QuotaTerms:
    """What one organization was promised.

    A limit that is not given is none. Of a guarantee, what is not given follows the largest part of the
    cluster that is, so that guaranteed GPUs come with the CPU and RAM to use them.
    """

    organization: str
    guaranteed: Amounts = (None, None, None)
    limit: Amounts = (None, None, None)
    weight: float = 1.0


class OrganizationQuotas:
    """Organizations by number, the index into `quotas`; without any terms the cluster is not shared.

    Who has no terms has no guarantee and no limit.
    """

    def __init__(self, terms: Sequence[QuotaTerms], nodes: NodeTable) -> None:
        self._whole = (
            int(nodes.cpu_milli.sum()),
            int(nodes.ram_mib.sum()),
            int(nodes.gpu_count.sum()) * WHOLE_GPU,
        )
        self._number_of: dict[str, int] = {}
        self.quotas: tuple[Quota, ...] = ()
        for each in terms:
            self._add(each)

    @property
    def is_shared(self) -> bool:
        return bool(self.quotas)

    def index_of(self, organization: str) -> int:
        """NOT_SHARED where nobody has terms."""
        if not self.is_shared:
            return NOT_SHARED
        found = self._number_of.get(organization)
        return self._add(QuotaTerms(organization)) if found is None else found

    def limit_rejection(self, job: Job) -> Rejection | None:
        """Why its organization may never run it: it alone is above the limit."""
        if not self.is_shared:
            return None
        number = self.index_of(job.organization)
        account = QuotaUsage(self.quotas[number], Resources(), Resources())
        over = account.over_limit(requested(job.shape, job.replicas))
        if over.is_zero:
            return None
        return Rejection(
            ReasonCode.QUOTA_LIMIT.value,
            f"asks for {described(over)} more than {job.organization} may use in all",
        )

    def _add(self, terms: QuotaTerms) -> int:
        number = self._number_of[terms.organization] = len(self.quotas)
        limit = Resources(*(_UNLIMITED if part is None else part for part in terms.limit))
        is_limited = any(part is not None for part in terms.limit)
        guaranteed = self._guarantee(terms.guaranteed)
        quota = Quota(number + 1, guaranteed, limit if is_limited else None, terms.weight)
        self.quotas = (*self.quotas, quota)
        return number

    def _guarantee(self, given: Amounts) -> Resources:
        parts = [part / whole for part, whole in zip(given, self._whole, strict=True) if part and whole]
        largest = min(1.0, max(parts, default=0.0))
        pairs = zip(given, self._whole, strict=True)
        return Resources(*(int(whole * largest) if part is None else part for part, whole in pairs))
