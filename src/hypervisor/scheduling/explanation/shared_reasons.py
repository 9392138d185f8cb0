"""Reasons that involve other deployments: limits, reservations, and which owners may be named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from math import isinf

from hypervisor.kernel.resources import Resources
from hypervisor.scheduling.passes.head_reservation import HeadReservation
from hypervisor.scheduling.plan_result import Reason, ReasonCode
from hypervisor.scheduling.preemption.quota_accounting import QuotaAccounting
from hypervisor.scheduling.snapshots.snapshot import Snapshot
from hypervisor.scheduling.snapshots.wording import described, listed

MOST_NAMED = 3
OTHER_ORGANIZATIONS_DEPLOYMENT = "a deployment of another organization"


def limit_reason(quotas: QuotaAccounting, row: int) -> Reason | None:
    """The reason if the deployment would exceed its organization's limit on this cluster, else None."""
    over = quotas.over_limit(row)
    if over.is_zero or quotas.ledger is None:
        return None
    account, job = quotas.ledger.projected(quotas.organization(row)), quotas.demand(row)
    limit = account.quota.limit or Resources()
    limit = Resources(
        limit.cpu_milli if over.cpu_milli else 0,
        limit.ram_mib if over.ram_mib else 0,
        limit.gpu_milli if over.gpu_milli else 0,
    )
    raise_it = "request a higher limit from the owner of the cluster"
    alone = replace(account, usage=Resources()).over_limit(job)
    wait = f"wait until the organization's own work has freed {described(over)}"
    return Reason(
        ReasonCode.QUOTA_LIMIT,
        f"the organization may use {described(limit) if not limit.is_zero else 'nothing'} of this cluster; "
        f"with this deployment it would use {described(over)} more than that",
        shortfall=over,
        suggestion=f"{wait}, or {raise_it}" if alone.is_zero else raise_it,
    )


def head_reason(snapshot: Snapshot, head: HeadReservation, reason: Reason) -> Reason:
    """The reason of the head of the queue, with the time of its reservation if known."""
    if isinf(head.latest_start):
        return reason
    names, start = listed([snapshot.nodes.name[node] for node in head.nodes]), _clock(head.latest_start)
    verb = "are" if head.other_nodes else "is"
    return replace(
        reason,
        sentence=f"{reason.sentence}; {names} {verb} reserved for it and free at {start} at the latest",
        suggestion=f"wait until {start}, or {reason.suggestion}",
    )


def head_start_text(head: HeadReservation | None) -> str | None:
    """The latest start of the head as text; None if unknown."""
    return None if head is None or isinf(head.latest_start) else _clock(head.latest_start)


def visible_owners(quotas: QuotaAccounting, rows: Mapping[int, int], organization: int) -> str:
    """The deployments (id: pending row) in words that this organization may read."""
    own = sorted(id_ for id_, row in rows.items() if quotas.organization(row) == organization)
    if not own:
        return OTHER_ORGANIZATIONS_DEPLOYMENT
    return f"deployment {listed([str(id_) for id_ in own[:MOST_NAMED]])}"


def _clock(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
