"""Writes the pending reasons of queued deployments where they changed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from sqlalchemy import update

from hypervisor.control.scheduler.snapshot_loader import Pending
from hypervisor.lifecycle.states import State
from hypervisor.scheduling.plan_result import Reason, ReasonCode, Unplaced
from hypervisor.store.chunks import chunks
from hypervisor.store.database import WriteSession
from hypervisor.store.tables import Deployment


def changed_reasons(
    unplaced: Sequence[Unplaced], pending: Mapping[int, Pending], cordon_reason: str | None = None
) -> list[tuple[Reason, list[int]]]:
    """Distinct reasons with the deployments that do not have them yet. Linear in the queue.

    `cordon_reason`: why the engine of the cluster is cordoned, which the plan does not include.
    """
    groups: dict[int, tuple[Reason, list[int]]] = {}
    by_text: dict[str, int] = {}
    ids: dict[int, list[int]] = defaultdict(list)
    for item in unplaced:
        reason = _with_cordon_reason(item.reason, cordon_reason)
        if pending[item.deployment_id].reason == reason.sentence:
            continue
        key = by_text.setdefault(reason.sentence, len(by_text))
        groups.setdefault(key, (reason, ids[key]))
        ids[key].append(item.deployment_id)
    return list(groups.values())


async def write_reasons(session: WriteSession, changes: Sequence[tuple[Reason, list[int]]]) -> None:
    """One UPDATE for each reason and few hundred deployments; only queued deployments change."""
    for reason, ids in changes:
        for chunk in chunks(sorted(ids)):
            await session.execute(
                update(Deployment)
                .where(Deployment.id.in_(chunk), Deployment.state == State.QUEUED.value)
                .values(reason_code=reason.code.value, reason=reason.sentence, reason_data=reason.as_data())
            )


def _with_cordon_reason(reason: Reason, cordon_reason: str | None) -> Reason:
    if cordon_reason is None or reason.code is not ReasonCode.NO_SCHEDULABLE_NODE:
        return reason
    return Reason(
        ReasonCode.NO_ROOM_ON_DISK,
        cordon_reason,
        reason.shortfall,
        suggestion="free space on that disk; starts resume automatically",
    )
