"""Who is considered first: a total order over the queue, with every component of it.

Priority first. On a shared cluster (a snapshot with quotas) fair share and age follow, as in Slurm's
multifactor order: the share that an organization has with everything of its own that stands ahead, less
what waiting is worth. Then creation time, then the id.
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
    """What the place of each pending deployment is made of; arrays in the order of the pending rows.

    `share` is its organization's dominant share, counting what it uses and what it has waiting ahead of
    this one (0 where no quotas are). `age_factor` is 0..1, of the policy's `age_horizon`; blocked time
    does not count. `position` is the place in the queue from 0 on. Inside a priority the lower
    `share - age_weight * age_factor` goes first, then the older.
    """

    deployment_id: Int64
    priority: Int32
    share: Float64
    age_factor: Float64
    created_at: Float64
    position: Int64


def order_components(snapshot: Snapshot, policy: Policy | None = None) -> OrderComponents:
    """Every component of the order of the queue, for showing it."""
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
    """Rows of the queue from first to last.

    Ending in an id makes the order total, so that the same queue is always worked through the same way.
    """
    pending = snapshot.pending
    if not snapshot.quotas:
        return _plain_order(pending)
    chosen = policy or Policy()
    standing = _shares_ahead(snapshot) - chosen.age_weight * _age_factor(snapshot, chosen)
    keys = (pending.deployment_id, pending.created_at, standing, -pending.priority.astype(np.int64))
    return np.lexsort(keys).astype(np.int64)


def _plain_order(pending: PendingTable) -> Int64:
    return sorted_rows(-pending.priority.astype(np.int64), pending.created_at, pending.deployment_id)


def _age_factor(snapshot: Snapshot, policy: Policy) -> Float64:
    waited = np.maximum(snapshot.now - snapshot.pending.eligible_since, 0.0)
    factor: Float64 = np.minimum(1.0, waited / policy.age_horizon)
    return factor


def _shares_ahead(snapshot: Snapshot) -> Float64:
    """Per row the share of its organization with what it uses and everything of its own that goes first.

    That is start-time fair queueing: of equal organizations each gets its turn, however many deployments
    one of them has submitted. What is larger than the whole cluster takes no turn.
    """
    pending, table = snapshot.pending, snapshot.allocations
    whole = lendable(snapshot)
    organization = pending.organization.astype(np.int64)
    order = np.lexsort(
        (
            pending.deployment_id,
            pending.created_at,
            -pending.priority.astype(np.int64),
            organization,
        )
    )
    wanted = _wanted(snapshot)
    possible = (wanted <= np.array([whole.cpu_milli, whole.ram_mib, whole.gpu_milli])).all(axis=1)
    wanted[~possible] = 0
    ahead = np.zeros_like(wanted)
    ahead[order] = np.cumsum(wanted[order], axis=0) - wanted[order]
    firsts = np.flatnonzero(np.diff(organization[order], prepend=-2))
    start_of = np.zeros_like(wanted)
    if len(order):
        group = np.cumsum(np.isin(np.arange(len(order)), firsts)) - 1
        start_of[order] = ahead[order[firsts]][group]
    used = np.zeros((len(snapshot.quotas) + 1, 3), np.int64)
    staying = ~table.releasing
    np.add.at(used, table.organization[staying], allocated(snapshot)[staying])
    return dominant_shares(snapshot.quotas, used[organization] + ahead - start_of, organization, whole)


def _wanted(snapshot: Snapshot) -> Int64:
    """What each pending deployment asks for, all replicas together."""
    shapes = np.array([(s.cpu_milli, s.ram_mib, s.gpu_milli) for s in snapshot.shapes], np.int64).reshape(
        -1, 3
    )
    wanted: Int64 = shapes[snapshot.pending.shape] * snapshot.pending.replicas.astype(np.int64)[:, None]
    return wanted
