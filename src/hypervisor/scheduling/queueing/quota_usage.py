"""The usage of a shared cluster by organization, during planning.

A cluster is shared if its snapshot has quotas. An organization may use its guarantee at any time. The unused
part is lent. Its share measures how far it is above its guarantee: the largest of its borrowed amounts, each
as a part of what the cluster could lend, divided by its weight. That is dominant resource fairness (Ghodsi et
al., NSDI'11), as Kueue applies it to borrowed capacity.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hypervisor.kernel.resources import WHOLE_GPU, Resources
from hypervisor.scheduling.snapshots.snapshot import Float64, Int32, Int64, Quota, Shape, Snapshot

UNLIMITED_QUOTA = Quota(0, Resources())
"""For deployments without an organization on a shared cluster: no guarantee, no limit."""


@dataclass(frozen=True, slots=True)
class QuotaUsage:
    """The quota of one organization, and what it uses. `lendable` is the capacity of the cluster."""

    quota: Quota
    usage: Resources
    lendable: Resources

    def dominant_share(self, *, plus: Resources | None = None, minus: Resources | None = None) -> float:
        """The dominant share with `plus` added to the usage and `minus` taken off; 0 within the guarantee."""
        usage = self.usage + (plus or Resources()) - (minus or Resources())
        above = usage.shortfall(self.quota.guaranteed)
        pairs = zip(_amounts(above), _amounts(self.lendable), strict=True)
        return max(part / max(1, total) for part, total in pairs) / self.quota.weight

    def is_guaranteed(self, demand: Resources) -> bool:
        """Whether the guarantee covers the demand beside the usage, in every resource that it contains."""
        columns = zip(_amounts(demand), _amounts(self.usage), _amounts(self.quota.guaranteed), strict=True)
        return all(required == 0 or used + required <= guaranteed for required, used, guaranteed in columns)

    def borrows(self, of: Resources) -> bool:
        """Whether the usage exceeds the guarantee in any resource that `of` contains."""
        columns = zip(_amounts(of), _amounts(self.usage), _amounts(self.quota.guaranteed), strict=True)
        return any(required and used > guaranteed for required, used, guaranteed in columns)

    def over_limit(self, demand: Resources) -> Resources:
        """By how much the usage would exceed the limit with this demand; zero if it would not."""
        limit = self.quota.limit
        if limit is None:
            return Resources()
        over = (self.usage + demand).shortfall(limit)
        columns = zip(_amounts(over), _amounts(demand), strict=True)
        return Resources(*(part if required else 0 for part, required in columns))


class QuotaLedger:
    """The usage of all organizations during a pass, by the index of their quota; -1 is no organization.

    There are two usages. The current usage counts everything that holds capacity; limits apply to it. The
    projected usage counts nominations and not releasing work: it is the usage after the plan, and the
    eviction rules apply to it.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self._quotas = (*snapshot.quotas, UNLIMITED_QUOTA)
        self._lendable = lendable(snapshot)
        table = snapshot.allocations
        used = allocated(snapshot)
        releasing = np.where(table.releasing[:, None], used, 0)
        count = len(self._quotas)
        current_amounts = _by_organization(table.organization, used, count)
        projected_amounts = current_amounts - _by_organization(table.organization, releasing, count)
        self._current = [Resources(*row) for row in current_amounts.tolist()]
        self._projected = [Resources(*row) for row in projected_amounts.tolist()]

    def projected(self, organization: int) -> QuotaUsage:
        """The usage after the plan so far."""
        return QuotaUsage(self._quotas[organization], self._projected[organization], self._lendable)

    def current(self, organization: int) -> QuotaUsage:
        """The usage by everything that holds capacity now."""
        return QuotaUsage(self._quotas[organization], self._current[organization], self._lendable)

    def record_start(self, organization: int, amount: Resources) -> None:
        """Count a placement in both usages."""
        self._current[organization] += amount
        self._projected[organization] += amount

    def record_nomination(self, organization: int, amount: Resources) -> None:
        """Count a nomination in the projected usage."""
        self._projected[organization] += amount

    def record_withdrawal(self, organization: int, amount: Resources) -> None:
        """Subtract a withdrawn nomination or an eviction from the projected usage."""
        self._projected[organization] -= amount


def lendable(snapshot: Snapshot) -> Resources:
    """All capacity of the cluster, cordoned nodes included: a share must not jump when a node is cordoned."""
    nodes = snapshot.nodes
    return Resources(
        int(nodes.cpu_milli.sum()), int(nodes.ram_mib.sum()), int(nodes.gpu_count.sum()) * WHOLE_GPU
    )


def allocated(snapshot: Snapshot) -> Int64:
    """The amounts of each allocation: one row each, with milli-CPU, MiB and milli-GPU."""
    table = snapshot.allocations
    gpu = np.bitwise_count(table.gpu_mask).astype(np.int64) * table.gpu_milli_per_device
    return np.stack((table.cpu_milli, table.ram_mib, gpu), axis=1).astype(np.int64)


def requested(shape: Shape, replicas: int = 1) -> Resources:
    """The amount of all replicas of a request."""
    return Resources(shape.cpu_milli * replicas, shape.ram_mib * replicas, shape.gpu_milli * replicas)


def dominant_shares(
    quotas: tuple[Quota, ...], usage: Int64, organization: Int64, total: Resources
) -> Float64:
    """`QuotaUsage.dominant_share` for many usages at once, one per row."""
    guaranteed = np.array([_amounts(quota.guaranteed) for quota in (*quotas, UNLIMITED_QUOTA)], np.float64)
    weight = np.array([quota.weight for quota in (*quotas, UNLIMITED_QUOTA)], np.float64)
    above = np.maximum(usage - guaranteed[organization], 0.0)
    shares: Float64 = (above / np.maximum(1, np.array(_amounts(total)))).max(axis=1) / weight[organization]
    return shares


def _by_organization(organization: Int32, amounts: Int64, count: int) -> Int64:
    totals = np.zeros((count, 3), np.int64)
    np.add.at(totals, organization, amounts)
    return totals


def _amounts(resources: Resources) -> tuple[int, int, int]:
    return resources.cpu_milli, resources.ram_mib, resources.gpu_milli
