"""The services of a request: the adapters that bootstrap chose, as a dependency of routes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Protocol, cast

from fastapi import Depends
from limits import RateLimitItem
from starlette.requests import HTTPConnection

from hypervisor.api.readiness import Readiness
from hypervisor.api.state_metrics import StateMetrics
from hypervisor.events.relay import EventRelay
from hypervisor.infra.coordination.coordination import Coordination
from hypervisor.infra.coordination.queue_index import QueueIndex
from hypervisor.infra.observability.telemetry import Telemetry
from hypervisor.infra.ratelimit import RateLimiter
from hypervisor.infra.security.encryption import Encryptor
from hypervisor.infra.security.passwords import Passwords
from hypervisor.infra.security.tokens import AccessTokens, AttemptTokens
from hypervisor.infra.wakeup import Wakeup
from hypervisor.kernel.clock import Clock
from hypervisor.runtimes.registry import RuntimeRegistry
from hypervisor.settings import Settings
from hypervisor.store.database import Database
from hypervisor.store.group_commit import GroupCommit


class QueuePositions(Protocol):
    """Implemented by `deployments.queue.positions`."""

    async def fill(self, index: QueueIndex | None, responses: Sequence[Any], *, new: bool = False) -> None:
        """Set the queue position of each queued deployment in `responses`."""


@dataclass(frozen=True, slots=True)
class AppServices:
    """Built once by `hypervisor.bootstrap`. Every service lives as long as the server.

    `wakeup` wakes the control loops. `coordination` sends its hints to other servers and holds the queue
    index. `relay` passes events to open streams. `stopping` is set at shutdown and ends the streams.
    `cookie_key` signs the cookies of the admin pages.

    Concurrent requests share one transaction in `submissions`, one query in `logins` and one in `positions`.
    Their inputs and results have types of the domains above: see `deployments.spec.submit` and
    `identity.principal.read_logins`.
    """

    settings: Settings
    clock: Clock
    database: Database
    logins: GroupCommit[str, Any]
    submissions: GroupCommit[Any, Any]
    positions: QueuePositions
    install_id: str
    tokens: AccessTokens
    attempt_tokens: AttemptTokens
    encryptor: Encryptor
    passwords: Passwords
    limiter: RateLimiter
    request_limit: RateLimitItem | None
    wakeup: Wakeup
    coordination: Coordination
    relay: EventRelay
    runtimes: RuntimeRegistry
    telemetry: Telemetry
    state_metrics: StateMetrics
    readiness: Readiness
    cookie_key: str = field(repr=False)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)


async def services_of(connection: HTTPConnection) -> AppServices:
    """Return the services of the app that serves this request.

    A coroutine, because the framework runs plain functions in a thread. That would cost more than the whole
    authentication.
    """
    return cast(AppServices, connection.app.state.services)


ServicesDep = Annotated[AppServices, Depends(services_of)]
