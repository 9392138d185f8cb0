"""The preemption receipt: the same permanent record on the preemptor's and on every victim's side."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from hypervisor.events.log import SCHEDULER, record_about
from hypervisor.scheduling.outcome import Eviction
from hypervisor.store.database import WriteSession
from hypervisor.store.tables import Deployment

PREEMPTION = "deployment.preemption"
PREEMPTED = "deployment.preempted"


def record_preemption(
    session: WriteSession,
    preemptor: Deployment,
    victims: Sequence[tuple[Sequence[Eviction], Deployment]],
    spared: Sequence[tuple[int, str, str]],
    *,
    node_names: Sequence[str],
    now: datetime,
) -> None:
    """Write the receipt. Each victim comes with its evictions, one a replica, and `node_names` are where the
    preemptor goes. `spared` are (id, name, why) of lower ones there that were not needed.

    Preemptor and victims may belong to different organizations only where a cluster is shared; each
    side's event stays in its own organization.
    """
    receipt = {
        "rule": victims[0][0][0].rule,
        "node": node_names[0],
        "nodes": list(node_names),
        "preemptor": {"id": preemptor.id, "name": preemptor.name, "priority": preemptor.priority},
        "victims": [
            {
                "id": victim.id,
                "name": victim.name,
                "priority": victim.priority,
                "lost_work_seconds": round(sum(part.lost_work for part in parts), 3),
            }
            for parts, victim in victims
        ],
        "spared": [{"id": id_, "name": name, "why": why} for id_, name, why in spared],
        "returns": "each victim goes back to the queue at its old place",
    }
    count = len(victims)
    _write(
        session,
        preemptor,
        PREEMPTION,
        f"preempts {count} deployment{'s' if count > 1 else ''} of lower priority on {', '.join(node_names)}",
        {**receipt, "role": "preemptor"},
        now,
    )
    for _, victim in victims:
        message = f"preempted by {preemptor.name} ({preemptor.id}); goes back to the queue at its old place"
        _write(session, victim, PREEMPTED, message, {**receipt, "role": "victim"}, now)


def _write(
    session: WriteSession,
    deployment: Deployment,
    type_: str,
    message: str,
    data: dict[str, object],
    now: datetime,
) -> None:
    record_about(
        session,
        deployment,
        at=now,
        actor=SCHEDULER,
        type=type_,
        code="preemption",
        message=message,
        data=data,
    )
