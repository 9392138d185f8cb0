"""What an attempt is told at its launch about reporting: where, with which token, and what came before it.

The token exists only in the environment of the workload: it is made for the launch and neither stored nor
logged. It opens nothing but the report of its own attempt (`deployments/history/checkpoint_auth.py`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from sqlalchemy import select

from hypervisor.control.reconciler.live_attempts import LiveAttempt
from hypervisor.infra.security.tokens import AttemptClaims, AttemptTokens
from hypervisor.kernel.names import InstanceName
from hypervisor.store.database import Database, ReadSession
from hypervisor.store.tables import Attempt

REPORTS_TO = "/api/v1/deployments/{}/checkpoint"
UNBOUNDED_LIFETIME = timedelta(hours=24)
"""Of the token of an attempt without `max_runtime_seconds`; reports renew it."""
MARGIN = timedelta(hours=1)
"""What a token outlives the longest run by: the launch itself takes time (an image), and so does a stop."""


@dataclass(frozen=True, slots=True)
class CheckpointEnv:
    """Where workloads report, as they reach it, and what lets them."""

    tokens: AttemptTokens = field(repr=False)
    base_url: str | None
    """None: nobody has said where the API is; then there are no reports."""

    async def environment_for(self, database: Database, work: LiveAttempt, now: datetime) -> dict[str, str]:
        """The environment for this attempt: HV_CHECKPOINT_*, and HV_PREVIOUS_* after another one."""
        name = InstanceName.parse(work.instance)
        number = name.attempt if name else 0
        own = {}
        if self.base_url is not None:
            claims = AttemptClaims(work.deployment_id, number)
            own["HV_CHECKPOINT_URL"] = self.base_url + REPORTS_TO.format(work.deployment_id)
            own["HV_CHECKPOINT_TOKEN"] = self.tokens.issue(claims, _lifetime(work), now)
        if number <= 1:
            return own
        async with database.read() as session:
            return own | await _previous(session, work.deployment_id, number)


def _lifetime(work: LiveAttempt) -> timedelta:
    longest = work.desired.max_runtime_seconds
    return UNBOUNDED_LIFETIME if longest is None else timedelta(seconds=longest) + MARGIN


async def _previous(session: ReadSession, deployment_id: int, number: int) -> dict[str, str]:
    """The attempt before this one, and the last checkpoint that any before it has reported."""
    earlier = (
        select(Attempt)
        .where(Attempt.deployment_id == deployment_id, Attempt.number < number)
        .order_by(Attempt.number.desc())
        .limit(1)
    )
    last = await session.scalar(earlier.order_by(Attempt.replica))
    if last is None:
        return {}
    told = {"HV_PREVIOUS_ATTEMPT": str(last.number), "HV_PREVIOUS_OUTCOME": last.outcome or ""}
    reported = await session.scalar(
        earlier.where(Attempt.checkpoint_at.is_not(None)).order_by(Attempt.checkpoint_at.desc())
    )
    if reported is not None and reported.checkpoint_at is not None:
        checkpoint = {
            "attempt": reported.number,
            "at": reported.checkpoint_at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
            **(reported.checkpoint or {}),
        }
        told["HV_PREVIOUS_CHECKPOINT"] = json.dumps(checkpoint)
    return told
