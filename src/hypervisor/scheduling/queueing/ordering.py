"""The total order of the queue, with every component of the order.

Priority comes first. On a shared cluster (a snapshot with quotas) fair share and age follow, as in Slurm's
multifactor order: the share of the organization, counting its own deployments ahead, less what the waiting
time is worth. Then come the creation time and the id.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hypervisor.scheduling.capacity.sorting import sorted_rows
from hypervisor.scheduling.policy import Policy
from hypervisor.scheduling.queueing.quota_usage import allocated, dominant_shares, lendable
from hypervisor.scheduling.snapshots.snapshot import Float64, Int32, Int64, PendingTable, Snapshot


@dataclass(frozen=True, slots=True, eq=False)
class OrderComponents:
    """The components of the order, as arrays in the order of the pending rows.

    `share` is the dominant share of the organization; it counts what the organization uses and its pending
    deployments ahead of this one. It is 0 without quotas. `age_factor` is the waiting time as a part of the
    policy's `age_horizon`, 0 to 1; blocked time does not count. `position` is 0-based. Within a priority the
    lower `share - age_weight * age_factor` goes first, then the older deployment.
    """

    deployment_id: Int64
    priority: Int32
    share: Float64
    age_factor: Float64
    created_at: Float64
    position: Int64


def order_components(snapshot: Snapshot, policy: Policy | None = None) -> OrderComponents:
    """Every component of the order, for display."""
    chosen, pending = policy or Policy(), snapshot.pending
    order = queue_order(snapshot, chosen)
    position = np.empty(len(order), np.int64)
    position[order] = np.arange(len(order))
    return OrderComponents(
        deployment_id=pending.deployment_id,
        priority=pending.priority,
        share=_shares_ahead(snapshot) if snapshot.quotas else np.zeros(len(pending)),
        age_factor=_age_factor(snapshot, chosen),
        created_at=pending.created_at,
        position=position,
    )


def queue_order(snapshot: Snapshot, policy: Policy | None = None) -> Int64:
    """The pending rows from first to last.

    The last key is the id. So the order is total, and the same queue always has the same order.
    """
    pending = snapshot.pending
    if not snapshot.quotas:
        return _plain_order(pending)
    chosen = policy or Policy()
    share_less_age = _shares_ahead(snapshot) - chosen.age_weight * _age_factor(snapshot, chosen)
    keys = (pending.deployment_id, pending.created_at, share_less_age, -pending.priority.astype(np.int64))
    return np.lexsort(keys).astype(np.int64)


def _plain_order(pending: PendingTable) -> Int64:
    return sorted_rows(-pending.priority.astype(np.int64), pending.created_at, pending.deployment_id)


def _age_factor(snapshot: Snapshot, policy: Policy) -> Float64:
    waited = np.maximum(snapshot.now - snapshot.pending.eligible_since, 0.0)
    factor: Float64 = np.minimum(1.0, waited / policy.age_horizon)
    return factor


def _shares_ahead(snapshot: Snapshot) -> Float64:
    """Per row the share of its organization, with its usage and its own deployments ahead of this one.

    That is start-time fair queueing: equal organizations take turns, however many deployments each has
    submitted. A deployment larger than the whole cluster does not count.
    """
    pending, table = snapshot.pending, snapshot.allocations
    total = lendable(snapshot)
    organization = pending.organization.astype(np.int64)
    order = np.lexsort(
        (
            pending.deployment_id,
            pending.created_at,
            -pending.priority.astype(np.int64),
            organization,
        )
    )
    demand = _demands(snapshot)
    possible = (demand <= np.array([total.cpu_milli, total.ram_mib, total.gpu_milli])).all(axis=1)
    demand[~possible] = 0
    ahead = np.zeros_like(demand)
    ahead[order] = np.cumsum(demand[order], axis=0) - demand[order]
    firsts = np.flatnonzero(np.diff(organization[order], prepend=-2))
    start_of = np.zeros_like(demand)
    if len(order):
        group = np.cumsum(np.isin(np.arange(len(order)), firsts)) - 1
        start_of[order] = ahead[order[firsts]][group]
    used = np.zeros((len(snapshot.quotas) + 1, 3), np.int64)
    staying = ~table.releasing
    np.add.at(used, table.organization[staying], allocated(snapshot)[staying])
    return dominant_shares(snapshot.quotas, used[organization] + ahead - start_of, organization, total)


def _demands(snapshot: Snapshot) -> Int64:
    """The demand of each pending deployment, all replicas together."""
    shapes = np.array([(s.cpu_milli, s.ram_mib, s.gpu_milli) for s in snapshot.shapes], np.int64).reshape(
        -1, 3
    )
    demand: Int64 = shapes[snapshot.pending.shape] * snapshot.pending.replicas.astype(np.int64)[:, None]
    return demand
