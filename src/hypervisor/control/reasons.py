"""Writes why each waiting deployment waits, where that has changed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from sqlalchemy import update

from hypervisor.control.snapshots import Pending
from hypervisor.deployments.dependents import chunks
from hypervisor.lifecycle.states import State
from hypervisor.scheduling.outcome import Reason, Unplaced
from hypervisor.store.database import WriteSession
from hypervisor.store.tables import Deployment


def changed_reasons(
    unplaced: Sequence[Unplaced], pending: Mapping[int, Pending]
) -> list[tuple[Reason, list[int]]]:
    """Distinct reasons with the ids that do not show them yet. Linear in the queue."""
    groups: dict[int, tuple[Reason, list[int]]] = {}
    by_text: dict[str, int] = {}
    ids: dict[int, list[int]] = defaultdict(list)
    for item in unplaced:
        sentence = item.reason.sentence
        if pending[item.deployment_id].reason == sentence:
            continue
        key = by_text.setdefault(sentence, len(by_text))
        groups.setdefault(key, (item.reason, ids[key]))
        ids[key].append(item.deployment_id)
    return list(groups.values())


async def write_reasons(session: WriteSession, changes: Sequence[tuple[Reason, list[int]]]) -> None:
    """One UPDATE for each distinct reason (and each few hundred deployments); only those still queued."""
    for reason, ids in changes:
        for chunk in chunks(sorted(ids)):
            await session.execute(
                update(Deployment)
                .where(Deployment.id.in_(chunk), Deployment.state == State.QUEUED.value)
                .values(reason_code=reason.code.value, reason=reason.sentence, reason_data=reason.as_data())
            )
