"""Preemption records: the same permanent event for the preemptor and for every victim.

On a shared cluster, preemptor and victims may belong to different organizations. Each event stays in its
organization, and deployments of another organization appear in it without id and name.
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
    reprieved: Sequence[tuple[int, str, str]],
    *,
    node_names: Sequence[str],
    now: datetime,
) -> None:
    """Write the events. Each victim has its evictions, one per replica; `node_names` are the nodes of the
    preemptor. `reprieved` has (id, name, why) of the reprieved deployments of the preemptor's organization.
    """
    count = len(victims)
    lower = " of lower priority" if all(_is_lower(parts) for parts, _ in victims) else ""
    _write(
        session,
        preemptor,
        PREEMPTION,
        f"preempts {count} deployment{'s' if count > 1 else ''}{lower} on {', '.join(node_names)}",
        {**_receipt(preemptor, preemptor, victims, reprieved, node_names), "role": "preemptor"},
        now,
    )
    for parts, victim in victims:
        message = f"preempted by {redacted_for(victim, preemptor)}; returns to its old position in the queue"
        own = reprieved if victim.organization_id == preemptor.organization_id else ()
        receipt = _receipt(victim, preemptor, victims, own, node_names)
        _write(
            session,
            victim,
            PREEMPTED,
            message,
            {**receipt, **_rule(parts), "role": "victim"},
            now,
        )


def record_ping_pong(session: WriteSession, first: Deployment, other: Deployment, *, now: datetime) -> None:
    """Record on both sides that these two do not evict each other for a day."""
    for own, foreign in ((first, other), (other, first)):
        record_about(
            session,
            own,
            at=now,
            actor=SCHEDULER,
            type=PAIR_FROZEN,
            code="pair_frozen",
            message=f"{own.name} and {redacted_for(own, foreign)} have evicted each other repeatedly; "
            "neither evicts the other for a day",
            data={"other": _entry(own, foreign)},
        )


def redacted_for(viewer: Deployment, other: Deployment) -> str:
    """The other deployment's name and id, redacted if it belongs to another organization."""
    same = viewer.organization_id == other.organization_id
    return f"{other.name} ({other.id})" if same else OTHER_ORGANIZATIONS_DEPLOYMENT


def _receipt(
    viewer: Deployment,
    preemptor: Deployment,
    victims: Sequence[Victim],
    reprieved: Sequence[tuple[int, str, str]],
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
        "spared": [{"id": id_, "name": name, "why": why} for id_, name, why in reprieved],
        "returns": "each victim returns to its old position in the queue",
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
