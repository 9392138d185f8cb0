"""What a request can reach: the adapters that were chosen at start, handed to routes as a dependency."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Annotated, cast

from fastapi import Depends
from limits import RateLimitItem
from starlette.requests import HTTPConnection

from hypervisor.api.readiness import Readiness
from hypervisor.api.state_metrics import StateMetrics
from hypervisor.events.relay import EventRelay
from hypervisor.infra.coordination.coordination import Coordination
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


@dataclass(frozen=True, slots=True)
class AppServices:
    """Built once by `hypervisor.bootstrap`; everything in it lives as long as the server.

    `wakeup` wakes the control loops, `sharing` carries its hints to other replicas and has the index of the
    queues, `relay` passes events on to open streams. `stopping` is set when the server goes down: streams
    end on it. `cookie_key` signs the cookies of the admin pages.
    """

    settings: Settings
    clock: Clock
    database: Database
    install_id: str
    tokens: AccessTokens
    attempt_tokens: AttemptTokens
    encryptor: Encryptor
    passwords: Passwords
    limiter: RateLimiter
    request_limit: RateLimitItem | None
    wakeup: Wakeup
    sharing: Coordination
    relay: EventRelay
    runtimes: RuntimeRegistry
    telemetry: Telemetry
    state_metrics: StateMetrics
    readiness: Readiness
    cookie_key: str = field(repr=False)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)


async def services_of(connection: HTTPConnection) -> AppServices:
    """The services of the app that serves this request.

    A coroutine, because the framework runs plain functions in a thread: that costs more than all the rest of
    finding out who calls.
    """
    return cast(AppServices, connection.app.state.services)


ServicesDep = Annotated[AppServices, Depends(services_of)]
