"""Checkpoints: what a live attempt says is safe, kept on its row; lost work counts from there."""

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
"""An attempt may report once in this time; its last report must be able to follow shortly on another."""
EVENT_EVERY = timedelta(minutes=10)
"""The history is for changes: reports of a long run must not drown them."""


async def save_checkpoint(
    session: WriteSession, reporter: ReportingAttempt, report: CheckpointReport, now: datetime
) -> Attempt:
    """Write a report on the live attempt: on each replica of a gang, whoever of them speaks.

    Raises Unauthenticated when the attempt that
    speaks is over, Conflict when a developer speaks for one that is not there, TooManyRequests.
    """
    live = await _lock_live(session, reporter)
    last = max((one.checkpoint_at for one in live if one.checkpoint_at is not None), default=None)
    if last is not None and timedelta(0) <= now - last < EVERY:
        raise too_many_requests(
            "checkpoint_too_soon",
            "One report a second is kept; this one was not. Send it again in a second if it is the last.",
            (last + EVERY - now).total_seconds(),
        )
    said = report.model_dump(exclude_none=True)
    for attempt in live:
        attempt.checkpoint_at = now
        attempt.checkpoint = said
    if last is None or _period(last) != _period(now):
        _record(session, live[0], said, reporter.actor, now)
    return live[0]


async def _lock_live(session: WriteSession, reporter: ReportingAttempt) -> Sequence[Attempt]:
    """The rows of the live attempt, one a replica, locked in id order."""
    query = select(Attempt).where(
        Attempt.deployment_id == reporter.deployment_id, Attempt.finished_at.is_(None)
    )
    if reporter.attempt is not None:
        query = query.where(Attempt.number == reporter.attempt)
    live = (await session.scalars(query.order_by(Attempt.id).with_for_update(key_share=True))).all()
    if live:
        return live
    if reporter.token is None:
        raise Conflict("not_running", "Nothing of this deployment runs: there is no attempt to report for.")
    raise Unauthenticated(
        "attempt_over",
        "This attempt has ended, and its token with it.",
        headers={"WWW-Authenticate": "Bearer"},
    )


def _record(
    session: WriteSession, attempt: Attempt, said: Mapping[str, Any], actor: str, now: datetime
) -> None:
    record(
        session,
        organization_id=attempt.organization_id,
        cluster_id=attempt.cluster_id,
        deployment_id=attempt.deployment_id,
        at=now,
        actor=actor,
        type=CHECKPOINT,
        message=_sentence(said),
        data={"attempt": attempt.number, **said},
    )


def _sentence(said: Mapping[str, Any]) -> str:
    parts = []
    if "progress" in said:
        parts.append(f"{said['progress']:.0%}")
    if "step" in said:
        parts.append(f"step {said['step']}")
    reached = f"has reached {', '.join(parts)}" if parts else "has a checkpoint"
    return f"{reached}: {said['message']}" if "message" in said else reached


def _period(moment: datetime) -> int:
    """Which `EVENT_EVERY` of the clock it is: one event in each, without a note of the last one."""
    return int(moment.timestamp() // EVENT_EVERY.total_seconds())
