"""Checkpoints: the last saved progress, stored on the row of the live attempt. Lost work counts from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select

from hypervisor.deployments.history.checkpoint_auth import ReportingAttempt
from hypervisor.deployments.schemas.requests import CheckpointReport
from hypervisor.errors import Conflict, Unauthenticated
from hypervisor.events.log import record
from hypervisor.infra.ratelimit import too_many_requests
from hypervisor.store.database import WriteSession
from hypervisor.store.tables import Attempt

CHECKPOINT = "deployment.checkpoint"
EVERY = timedelta(seconds=1)
"""The minimum time between two reports. It is short, so that a last report can soon follow another one."""
EVENT_EVERY = timedelta(minutes=10)
"""The minimum time between two events: the reports of a long run must not hide the changes of state."""


async def save_checkpoint(
    session: WriteSession, reporter: ReportingAttempt, report: CheckpointReport, now: datetime
) -> Attempt:
    """Write a report on every replica of the live attempt, whichever replica sent it.

    Raises Unauthenticated when the reporting attempt has ended, Conflict when a developer reports and there
    is no live attempt, TooManyRequests.
    """
    live = await _lock_live(session, reporter)
    last = max((one.checkpoint_at for one in live if one.checkpoint_at is not None), default=None)
    if last is not None and timedelta(0) <= now - last < EVERY:
        raise too_many_requests(
            "checkpoint_too_soon",
            "One report is stored each second, and this one was not. If it is the last, send it again soon.",
            (last + EVERY - now).total_seconds(),
        )
    checkpoint = report.model_dump(exclude_none=True)
    for attempt in live:
        attempt.checkpoint_at = now
        attempt.checkpoint = checkpoint
    if last is None or _period(last) != _period(now):
        _record(session, live[0], checkpoint, reporter.actor, now)
    return live[0]


async def _lock_live(session: WriteSession, reporter: ReportingAttempt) -> Sequence[Attempt]:
    """The rows of the live attempt, one for each replica, locked in id order."""
    query = select(Attempt).where(
        Attempt.deployment_id == reporter.deployment_id, Attempt.finished_at.is_(None)
    )
    if reporter.attempt is not None:
        query = query.where(Attempt.number == reporter.attempt)
    live = (await session.scalars(query.order_by(Attempt.id).with_for_update(key_share=True))).all()
    if live:
        return live
    if reporter.token is None:
        raise Conflict("not_running", "The deployment is not running: there is no attempt to report for.")
    raise Unauthenticated(
        "attempt_over",
        "The attempt has ended, and its token is no longer valid.",
        headers={"WWW-Authenticate": "Bearer"},
    )


def _record(
    session: WriteSession, attempt: Attempt, checkpoint: Mapping[str, Any], actor: str, now: datetime
) -> None:
    record(
        session,
        organization_id=attempt.organization_id,
        cluster_id=attempt.cluster_id,
        deployment_id=attempt.deployment_id,
        at=now,
        actor=actor,
        type=CHECKPOINT,
        message=_sentence(checkpoint),
        data={"attempt": attempt.number, **checkpoint},
    )


def _sentence(checkpoint: Mapping[str, Any]) -> str:
    parts = []
    if "progress" in checkpoint:
        parts.append(f"{checkpoint['progress']:.0%}")
    if "step" in checkpoint:
        parts.append(f"step {checkpoint['step']}")
    reached = f"has reached {', '.join(parts)}" if parts else "has a checkpoint"
    return f"{reached}: {checkpoint['message']}" if "message" in checkpoint else reached


def _period(moment: datetime) -> int:
    """The number of the `EVENT_EVERY` interval since 1970: each has one event, so no last time is stored."""
    return int(moment.timestamp() // EVENT_EVERY.total_seconds())
