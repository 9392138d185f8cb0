"""The preemption receipt: the same permanent record on the preemptor's and on every victim's side.

Preemptor and victims may belong to different organizations where a cluster is shared. Each side's event stays
in its own organization, and what belongs to another one appears there without id and name.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from hypervisor.events.log import SCHEDULER, record_about
from hypervisor.scheduling.explanation.rule_sentence import rule_sentence
from hypervisor.scheduling.explanation.shared_reasons import OTHER_ORGANIZATIONS_DEPLOYMENT
from hypervisor.scheduling.plan_result import Eviction, PreemptionRule
from hypervisor.store.database import WriteSession
from hypervisor.store.tables import Deployment

PREEMPTION = "deployment.preemption"
PREEMPTED = "deployment.preempted"
PAIR_FROZEN = "scheduler.pair_frozen"

Victim = tuple[Sequence[Eviction], Deployment]


def record_preemption(
    session: WriteSession,
    preemptor: Deployment,
    victims: Sequence[Victim],
    spared: Sequence[tuple[int, str, str]],
    *,
    node_names: Sequence[str],
    now: datetime,
) -> None:
    """Write the receipt. Each victim comes with its evictions, one a replica, and `node_names` are where the
    preemptor goes. `spared` are (id, name, why) of its own organization's there that were not needed.
    """
    count = len(victims)
    lower = " of lower priority" if all(_is_lower(parts) for parts, _ in victims) else ""
    _write(
        session,
        preemptor,
        PREEMPTION,
        f"preempts {count} deployment{'s' if count > 1 else ''}{lower} on {', '.join(node_names)}",
        {**_receipt(preemptor, preemptor, victims, spared, node_names), "role": "preemptor"},
        now,
    )
    for parts, victim in victims:
        message = f"preempted by {redacted_for(victim, preemptor)}; goes back to the queue at its old place"
        own = spared if victim.organization_id == preemptor.organization_id else ()
        receipt = _receipt(victim, preemptor, victims, own, node_names)
        _write(
            session,
            victim,
            PREEMPTED,
            message,
            {**receipt, **_rule(parts), "role": "victim"},
            now,
        )


def record_ping_pong(session: WriteSession, one: Deployment, other: Deployment, *, now: datetime) -> None:
    """Say on both sides that these two do not evict each other any more for now."""
    for own, foreign in ((one, other), (other, one)):
        record_about(
            session,
            own,
            at=now,
            actor=SCHEDULER,
            type=PAIR_FROZEN,
            code="pair_frozen",
            message=f"{own.name} and {redacted_for(own, foreign)} have evicted each other in turn: "
            "for a day neither evicts the other any more",
            data={"other": _entry(own, foreign)},
        )


def redacted_for(viewer: Deployment, other: Deployment) -> str:
    """The other deployment in words that the viewer's organization may read."""
    same = viewer.organization_id == other.organization_id
    return f"{other.name} ({other.id})" if same else OTHER_ORGANIZATIONS_DEPLOYMENT


def _receipt(
    viewer: Deployment,
    preemptor: Deployment,
    victims: Sequence[Victim],
    spared: Sequence[tuple[int, str, str]],
    node_names: Sequence[str],
) -> dict[str, object]:
    return {
        **_rule(victims[0][0]),
        "node": node_names[0],
        "nodes": list(node_names),
        "preemptor": _entry(viewer, preemptor),
        "victims": [
            {
                **_entry(viewer, victim),
                **_rule(parts),
                "lost_work_seconds": round(sum(part.lost_work for part in parts), 3),
            }
            for parts, victim in victims
        ],
        "spared": [{"id": id_, "name": name, "why": why} for id_, name, why in spared],
        "returns": "each victim goes back to the queue at its old place",
    }


def _entry(viewer: Deployment, other: Deployment) -> dict[str, object]:
    same = viewer.organization_id == other.organization_id
    return {
        "id": other.id if same else None,
        "name": other.name if same else OTHER_ORGANIZATIONS_DEPLOYMENT,
        "priority": other.priority,
    }


def _rule(parts: Sequence[Eviction]) -> dict[str, object]:
    """The rule as a code, and in words."""
    return {"rule": parts[0].rule.value, "rule_sentence": rule_sentence(parts[0])}


def _is_lower(parts: Sequence[Eviction]) -> bool:
    return parts[0].rule is not PreemptionRule.RECLAIM


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
