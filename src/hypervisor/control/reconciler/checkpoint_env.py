"""The environment variables for checkpoint reports: the URL, the token, and the previous attempt.

The token exists only in the environment of the workload: it is issued for the launch and neither stored nor
logged. It permits only reports of its own attempt (`deployments/history/checkpoint_auth.py`).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from sqlalchemy import select

from hypervisor.control.reconciler.live_attempts import LiveAttempt
from hypervisor.infra.security.tokens import AttemptClaims, AttemptTokens
from hypervisor.kernel.engine_ref import EngineRef
from hypervisor.kernel.names import InstanceName
from hypervisor.store.database import Database, ReadSession
from hypervisor.store.tables import Attempt

CHECKPOINT_PATH = "/api/v1/deployments/{}/checkpoint"
UNBOUNDED_LIFETIME = timedelta(hours=24)
"""Lifetime of the token of an attempt without `max_runtime_seconds`; reports renew it."""
TOKEN_MARGIN = timedelta(hours=1)
"""Added to the maximum runtime for the lifetime of a token: launches (image pulls) and stops take time."""


@dataclass(frozen=True, slots=True)
class CheckpointEnv:
    """The API's URL as workloads reach it, and the issuer of their tokens."""

    tokens: AttemptTokens = field(repr=False)
    url_of: Callable[[EngineRef], str | None]
    """The URL for the workloads of an engine; None: they cannot report."""

    async def environment_for(
        self, database: Database, attempt: LiveAttempt, now: datetime
    ) -> dict[str, str]:
        """The variables of this attempt: HV_CHECKPOINT_*, and HV_PREVIOUS_* after an earlier attempt."""
        name = InstanceName.parse(attempt.instance)
        number = name.attempt if name else 0
        environment = {}
        base_url = self.url_of(attempt.engine)
        if base_url is not None:
            claims = AttemptClaims(attempt.deployment_id, number)
            environment["HV_CHECKPOINT_URL"] = base_url + CHECKPOINT_PATH.format(attempt.deployment_id)
            environment["HV_CHECKPOINT_TOKEN"] = self.tokens.issue(claims, _lifetime(attempt), now)
        if number <= 1:
            return environment
        async with database.read() as session:
            return environment | await _previous_environment(session, attempt.deployment_id, number)


def _lifetime(attempt: LiveAttempt) -> timedelta:
    longest = attempt.desired.max_runtime_seconds
    return UNBOUNDED_LIFETIME if longest is None else timedelta(seconds=longest) + TOKEN_MARGIN


async def _previous_environment(session: ReadSession, deployment_id: int, number: int) -> dict[str, str]:
    """The previous attempt, and the last checkpoint that any earlier attempt reported."""
    earlier = (
        select(Attempt)
        .where(Attempt.deployment_id == deployment_id, Attempt.number < number)
        .order_by(Attempt.number.desc())
        .limit(1)
    )
    last = await session.scalar(earlier.order_by(Attempt.replica))
    if last is None:
        return {}
    environment = {"HV_PREVIOUS_ATTEMPT": str(last.number), "HV_PREVIOUS_OUTCOME": last.outcome or ""}
    reported = await session.scalar(
        earlier.where(Attempt.checkpoint_at.is_not(None)).order_by(Attempt.checkpoint_at.desc())
    )
    if reported is not None and reported.checkpoint_at is not None:
        checkpoint = {
            "attempt": reported.number,
            "at": reported.checkpoint_at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
            **(reported.checkpoint or {}),
        }
        environment["HV_PREVIOUS_CHECKPOINT"] = json.dumps(checkpoint)
    return environment
