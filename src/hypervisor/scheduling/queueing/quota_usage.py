"""Who uses how much of a shared cluster, by organization, while a plan is made.

A cluster is shared when its snapshot has quotas. An organization may use its guarantee at any time; what it
does not use is lent. How far it is above its guarantee is its share: the dominant one of its borrowed
amounts, in parts of what the cluster could lend, divided by its weight (dominant resource fairness, Ghodsi
et al., NSDI'11, as Kueue applies it to borrowed capacity).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hypervisor.kernel.resources import WHOLE_GPU, Resources
from hypervisor.scheduling.snapshots.snapshot import Float64, Int32, Int64, Quota, Shape, Snapshot

UNLIMITED_QUOTA = Quota(0, Resources())
"""For deployments of no organization on a shared cluster: no guarantee, no limit."""


@dataclass(frozen=True, slots=True)
class QuotaUsage:
    """One organization on one cluster: its quota and what it uses; `lendable` is the whole cluster."""

    quota: Quota
    usage: Resources
    lendable: Resources

    def dominant_share(self, *, plus: Resources | None = None, minus: Resources | None = None) -> float:
        """The dominant share, with `plus` used as well and `minus` no longer; 0 within the guarantee."""
        usage = self.usage + (plus or Resources()) - (minus or Resources())
        above = usage.shortfall(self.quota.guaranteed)
        pairs = zip(_amounts(above), _amounts(self.lendable), strict=True)
        return max(part / max(1, whole) for part, whole in pairs) / self.quota.weight

    def is_guaranteed(self, job: Resources) -> bool:
        """Whether the guarantee covers the job on top of what is used, in every resource that it asks for."""
        columns = zip(_amounts(job), _amounts(self.usage), _amounts(self.quota.guaranteed), strict=True)
        return all(asked == 0 or used + asked <= guaranteed for asked, used, guaranteed in columns)

    def borrows(self, of: Resources) -> bool:
        """Whether more than the guarantee is used of any resource that `of` holds some of."""
        columns = zip(_amounts(of), _amounts(self.usage), _amounts(self.quota.guaranteed), strict=True)
        return any(held and used > guaranteed for held, used, guaranteed in columns)

    def over_limit(self, job: Resources) -> Resources:
        """By how much the job would lift the usage above the limit; zero where it does not."""
        limit = self.quota.limit
        if limit is None:
            return Resources()
        over = (self.usage + job).shortfall(limit)
        columns = zip(_amounts(over), _amounts(job), strict=True)
        return Resources(*(part if asked else 0 for part, asked in columns))


class QuotaLedger:
    """The accounts of a pass, by organization (an index into the quotas; -1 is nobody).

    Two usages are kept. What is `held` counts everything that holds capacity, so that no limit is ever
    exceeded. What is `settled` leaves out those that have been asked to stop and counts nominations: that
    is what the shares will be once the plan has come true, and what evictions are judged by.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self._quotas = (*snapshot.quotas, UNLIMITED_QUOTA)
        self._lendable = lendable(snapshot)
        table = snapshot.allocations
        used = allocated(snapshot)
        going = np.where(table.releasing[:, None], used, 0)
        count = len(self._quotas)
        held = _by_organization(table.organization, used, count)
        settled = held - _by_organization(table.organization, going, count)
        self._held = [Resources(*row) for row in held.tolist()]
        self._settled = [Resources(*row) for row in settled.tolist()]

    def projected(self, organization: int) -> QuotaUsage:
        """As it will be once the plan so far has come true."""
        return QuotaUsage(self._quotas[organization], self._settled[organization], self._lendable)

    def current(self, organization: int) -> QuotaUsage:
        """With everything that holds capacity at this moment."""
        return QuotaUsage(self._quotas[organization], self._held[organization], self._lendable)

    def record_start(self, organization: int, amount: Resources) -> None:
        """A placement: it holds capacity from now on."""
        self._held[organization] += amount
        self._settled[organization] += amount

    def record_nomination(self, organization: int, amount: Resources) -> None:
        """A nomination; give it back with `unsettle`."""
        self._settled[organization] += amount

    def record_withdrawal(self, organization: int, amount: Resources) -> None:
        """A nomination was given up, or something is asked to stop."""
        self._settled[organization] -= amount


def lendable(snapshot: Snapshot) -> Resources:
    """All capacity of the cluster, cordoned nodes included: a share must not jump when a node rests."""
    nodes = snapshot.nodes
    return Resources(
        int(nodes.cpu_milli.sum()), int(nodes.ram_mib.sum()), int(nodes.gpu_count.sum()) * WHOLE_GPU
    )


def allocated(snapshot: Snapshot) -> Int64:
    """What each allocation holds: one row each with milli-CPU, MiB and milli-GPU."""
    table = snapshot.allocations
    gpu = np.bitwise_count(table.gpu_mask).astype(np.int64) * table.gpu_milli_per_device
    return np.stack((table.cpu_milli, table.ram_mib, gpu), axis=1).astype(np.int64)


def requested(shape: Shape, replicas: int = 1) -> Resources:
    """What all replicas of a request hold together."""
    return Resources(shape.cpu_milli * replicas, shape.ram_mib * replicas, shape.gpu_milli * replicas)


def dominant_shares(
    quotas: tuple[Quota, ...], usage: Int64, organization: Int64, whole: Resources
) -> Float64:
    """`QuotaUsage.share` for many usages (rows) of these organizations at once."""
    guaranteed = np.array([_amounts(quota.guaranteed) for quota in (*quotas, UNLIMITED_QUOTA)], np.float64)
    weight = np.array([quota.weight for quota in (*quotas, UNLIMITED_QUOTA)], np.float64)
    above = np.maximum(usage - guaranteed[organization], 0.0)
    shares: Float64 = (above / np.maximum(1, np.array(_amounts(whole)))).max(axis=1) / weight[organization]
    return shares


def _by_organization(organization: Int32, amounts: Int64, count: int) -> Int64:
    totals = np.zeros((count, 3), np.int64)
    np.add.at(totals, organization, amounts)
    return totals


def _amounts(resources: Resources) -> tuple[int, int, int]:
    return resources.cpu_milli, resources.ram_mib, resources.gpu_milli
