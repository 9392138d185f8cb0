"""What an attempt wrote: its last lines at once, or followed as a stream of events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator

from fastapi.sse import format_sse_event

from hypervisor.api.services import AppServices
from hypervisor.api.streams import until_stopping, with_pings
from hypervisor.deployments.access import repository
from hypervisor.deployments.access.policy import DeploymentAccess
from hypervisor.errors import NotFound, Unavailable
from hypervisor.kernel.engine_ref import EngineRef
from hypervisor.lifecycle.states import State
from hypervisor.organizations.access import still_member
from hypervisor.runtimes.protocol import Runtime, RuntimeUnavailable
from hypervisor.store.tables import Attempt

MAX_TAIL = 10_000
POLL_SECONDS = 0.25
END_SEEN_WITHIN = 10.0
"""How long the record of an end may take to follow the end of the log."""
FIRST_ATTEMPT_WITHIN = 2.0
"""How long a stream waits for the first attempt of what has just been submitted."""


async def find_attempt(
    services: AppServices, access: DeploymentAccess, number: int | None, replica: int
) -> Attempt | None:
    """The attempt of the replica whose log is wanted, the last one for None. None: it has not run yet.

    Raises NotFound for a number or a replica that there is not.
    """
    async with services.database.read() as session:
        attempt = await repository.find_attempt(session, access.deployment_id, number, replica)
    if attempt is None and replica >= access.deployment.replicas:
        raise NotFound("replica_not_found", f"There is no replica {replica} of this deployment.")
    if attempt is None and number is not None:
        raise NotFound("attempt_not_found", f"There is no attempt {number} of this deployment.")
    return attempt


async def await_attempt(services: AppServices, access: DeploymentAccess, replica: int) -> Attempt | None:
    """The last attempt; a moment is given to what is queued and about to be placed."""
    for _ in range(int(FIRST_ATTEMPT_WITHIN / POLL_SECONDS)):
        async with services.database.read() as session:
            attempt = await repository.find_attempt(session, access.deployment_id, None, replica)
            deployment = await repository.find(session, access.deployment_id)
        if attempt is not None or deployment is None or deployment.state != State.QUEUED.value:
            return attempt
        await asyncio.sleep(POLL_SECONDS)
    return None


async def read(services: AppServices, attempt: Attempt | None, tail: int) -> str:
    """The last `tail` lines. Raises Unavailable when the engine cannot be asked."""
    if attempt is None:
        return ""
    try:
        lines = [line async for line in _runtime(services, attempt).logs(attempt.instance, tail=tail)]
    except RuntimeUnavailable as error:
        raise _unavailable(error) from None
    return "".join(f"{line}\n" for line in lines)


async def check_reachable(services: AppServices, attempt: Attempt | None) -> None:
    """Ask the engine before a stream is promised. Raises Unavailable."""
    if attempt is None:
        return
    try:
        await _runtime(services, attempt).observe([attempt.instance])
    except RuntimeUnavailable as error:
        raise _unavailable(error) from None


async def follow(
    services: AppServices, access: DeploymentAccess, attempt: Attempt | None, tail: int
) -> AsyncIterator[bytes]:
    """Server-sent events: "log" for each line, "end" with the deployment's state when the attempt is over.

    Without an attempt the end comes at once. Ends early when the server stops, or with the login.
    """
    lines = with_pings(_events(services, access, attempt, tail))
    may_go_on = still_member(services, access.principal, access.organization_id)
    async for chunk in until_stopping(services, lines, may_go_on):
        yield chunk


async def _events(
    services: AppServices, access: DeploymentAccess, attempt: Attempt | None, tail: int
) -> AsyncGenerator[bytes, None]:
    if attempt is not None:
        try:
            async for line in _lines(services, attempt, tail):
                yield _event("log", line)
        except RuntimeUnavailable as error:
            yield _event("error", str(error))
    async with services.database.read() as session:
        deployment = await repository.find(session, access.deployment_id)
    yield _event("end", deployment.state if deployment is not None else "DELETED")


async def _lines(services: AppServices, attempt: Attempt, tail: int) -> AsyncIterator[str]:
    """Lines until the attempt is over; one that is still being launched is waited for."""
    runtime, wrote = _runtime(services, attempt), False
    while True:
        async for line in runtime.logs(attempt.instance, tail=tail, follow=True):
            wrote = True
            yield line
        now = await _reload(services, attempt)
        if now is None or now.finished_at is not None:
            return
        if wrote or now.started_at is not None:
            await _await_end(services, attempt)
            return
        await asyncio.sleep(POLL_SECONDS)


async def _await_end(services: AppServices, attempt: Attempt) -> None:
    """The log is over: wait until that the attempt has ended is recorded as well."""
    for _ in range(int(END_SEEN_WITHIN / POLL_SECONDS)):
        now = await _reload(services, attempt)
        if now is None or now.finished_at is not None:
            return
        await asyncio.sleep(POLL_SECONDS)


async def _reload(services: AppServices, attempt: Attempt) -> Attempt | None:
    async with services.database.read() as session:
        return await session.get(Attempt, attempt.id)


def _runtime(services: AppServices, attempt: Attempt) -> Runtime:
    try:
        return services.runtimes.get(EngineRef(attempt.runtime, attempt.engine_endpoint))
    except KeyError:
        raise Unavailable(
            "runtime_unavailable", f"The runtime {attempt.runtime!r} is not configured on this server."
        ) from None


def _event(name: str, text: str) -> bytes:
    return format_sse_event(data_str=text, event=name)


def _unavailable(error: RuntimeUnavailable) -> Unavailable:
    return Unavailable(
        "runtime_unavailable", f"The engine that it ran on cannot be reached now: {error}. Try again."
    )
