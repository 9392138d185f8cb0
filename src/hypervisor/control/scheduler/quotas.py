"""Fairness data of a snapshot: quotas, cooldown after many preemptions, ping-pong pairs."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from datetime import datetime, timedelta

from sqlalchemy import Row, bindparam, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from hypervisor.kernel.resources import WHOLE_GPU, Resources
from hypervisor.lifecycle.states import LIVE, WAITING
from hypervisor.scheduling.snapshots.snapshot import Quota
from hypervisor.store.tables import Allocation, Attempt, Cluster, ClusterShare, Deployment, Node

UNLIMITED = 2**53
DRAINED_WEIGHT = 0.001
"""The weight of an organization without an accepted share: its use weighs most, so its work is evicted
first."""
PING_PONG_WINDOW = timedelta(days=1)
PING_PONG_COUNT = 2


async def load_quotas(session: AsyncSession, cluster: Cluster) -> list[Quota]:
    """The quotas of a shared cluster by organization; empty for a cluster that is not shared.

    The owner is guaranteed the capacity that is not guaranteed to others. An organization whose share was
    withdrawn has a limit of zero; all others may preempt its remaining deployments.
    """
    rows = list(await session.scalars(_SHARES, {"cluster_id": cluster.id}))
    accepted = [row for row in rows if row.state == "accepted"]
    revoked = await _with_active_deployments(
        session, cluster.id, {row.organization_id for row in rows} - _ids(accepted)
    )
    if not accepted and not revoked:
        return []
    quotas = [quota_of(row) for row in accepted]
    quotas += [Quota(id_, Resources(), Resources(), DRAINED_WEIGHT) for id_ in sorted(revoked)]
    promised = sum((quota.guaranteed for quota in quotas), Resources())
    own = (await capacity_of(session, cluster.id)).shortfall(promised)
    return [Quota(cluster.organization_id, own), *sorted(quotas, key=lambda quota: quota.organization_id)]


def quota_of(share: ClusterShare) -> Quota:
    """The quota that a share defines."""
    limits = (share.limit_cpu_milli, share.limit_ram_mib, share.limit_gpu_milli)
    limit = Resources(*(UNLIMITED if part is None else part for part in limits))
    return Quota(
        share.organization_id,
        Resources(share.guaranteed_cpu_milli, share.guaranteed_ram_mib, share.guaranteed_gpu_milli),
        None if all(part is None for part in limits) else limit,
        share.weight_milli / 1000,
    )


async def capacity_of(session: AsyncSession, cluster_id: int) -> Resources:
    """The total capacity of the cluster's nodes."""
    sums = select(func.sum(Node.cpu_milli), func.sum(Node.ram_mib), func.sum(Node.gpu_count))
    cpu, ram, gpus = (await session.execute(sums.where(Node.cluster_id == cluster_id))).one()
    return Resources(int(cpu or 0), int(ram or 0), int(gpus or 0) * WHOLE_GPU)


async def cooling_down(session: AsyncSession, cluster: Cluster, now: datetime) -> dict[int, float]:
    """Live deployments over their preemption budget, with the timestamp until which they are protected."""
    if not cluster.preemption_budget:
        return {}
    window = timedelta(seconds=cluster.preemption_window_seconds)
    cooldown = timedelta(seconds=cluster.preemption_cooldown_seconds)
    rows = await session.execute(
        _PREEMPTION_TIMES, {"cluster_id": cluster.id, "since": now - window - cooldown}
    )
    times: dict[int, list[datetime]] = defaultdict(list)
    for deployment_id, _, at in rows:
        if at is not None:
            times[deployment_id].append(at)
    ends = {
        id_: cooldown_until(found, cluster.preemption_budget, window, cooldown)
        for id_, found in times.items()
    }
    return {id_: end.timestamp() for id_, end in ends.items() if end is not None and end > now}


def cooldown_until(
    preempted_at: Collection[datetime], budget: int, window: timedelta, cooldown: timedelta
) -> datetime | None:
    """The end of the cooldown after `budget` preemptions within the window; None for fewer."""
    times = sorted(preempted_at)
    ends = [
        last + cooldown
        for first, last in zip(times, times[budget - 1 :], strict=False)
        if last - first <= window
    ]
    return max(ends, default=None)


async def ping_pong_pairs(session: AsyncSession, cluster_id: int, now: datetime) -> list[tuple[int, int]]:
    """Pairs of deployments that evicted each other twice each within a day, in both orders."""
    parameters = {"cluster_id": cluster_id, "since": now - PING_PONG_WINDOW}
    counts = _count(await session.execute(_ON_CLUSTER, parameters))
    return sorted(
        pair for pair, count in counts.items() if min(count, counts[pair[1], pair[0]]) >= PING_PONG_COUNT
    )


async def is_ping_pong(session: AsyncSession, preemptor_id: int, victim_id: int, now: datetime) -> bool:
    """Whether the preemption that was just written makes this a ping-pong pair."""
    parameters = {"pair": [preemptor_id, victim_id], "since": now - PING_PONG_WINDOW}
    counts = _count(await session.execute(_WITHIN_PAIR, parameters))
    forth, back = counts[preemptor_id, victim_id], counts[victim_id, preemptor_id]
    return forth == PING_PONG_COUNT and back >= PING_PONG_COUNT


def _count(preemptions: Iterable[Row[int | None, int, int]]) -> Counter[tuple[int, int]]:
    """The number of preemptions for each (preemptor, victim); a gang counts once."""
    return Counter((preemptor or 0, victim) for preemptor, victim, _ in preemptions)


async def _with_active_deployments(
    session: AsyncSession, cluster_id: int, organization_ids: Collection[int]
) -> set[int]:
    """The organizations that have a running or waiting deployment on the cluster."""
    if not organization_ids:
        return set()
    rows = await session.scalars(
        select(Deployment.organization_id)
        .where(
            Deployment.cluster_id == cluster_id,
            Deployment.organization_id.in_(sorted(organization_ids)),
            Deployment.state.in_([state.value for state in WAITING | LIVE]),
        )
        .distinct()
    )
    return set(rows)


# Built once: every pass of the scheduler runs these.
_SHARES = select(ClusterShare).where(ClusterShare.cluster_id == bindparam("cluster_id"))
_PREEMPTION_TIMES = (
    select(Attempt.deployment_id, Attempt.number, func.min(Attempt.stop_requested_at))
    .where(
        Attempt.deployment_id.in_(
            select(Allocation.deployment_id).where(Allocation.cluster_id == bindparam("cluster_id"))
        ),
        Attempt.cluster_id == bindparam("cluster_id"),
        Attempt.preempted_by.is_not(None),
        Attempt.stop_requested_at > bindparam("since"),
    )
    .group_by(Attempt.deployment_id, Attempt.number)
)
_PREEMPTIONS = (
    select(Attempt.preempted_by, Attempt.deployment_id, Attempt.number)
    .where(Attempt.preempted_by.is_not(None), Attempt.stop_requested_at > bindparam("since"))
    .distinct()
)
_ON_CLUSTER = _PREEMPTIONS.where(Attempt.cluster_id == bindparam("cluster_id"))
_WITHIN_PAIR = _PREEMPTIONS.where(
    Attempt.deployment_id.in_(bindparam("pair", expanding=True)),
    Attempt.preempted_by.in_(bindparam("pair", expanding=True)),
)


def _ids(shares: Collection[ClusterShare]) -> set[int]:
    return {share.organization_id for share in shares}
