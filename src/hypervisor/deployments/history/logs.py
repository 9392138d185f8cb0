"""The log of an attempt: its last lines as bytes, or a stream of events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from fastapi.sse import format_sse_event

from hypervisor.api.streams import with_silences
from hypervisor.deployments.access import repository
from hypervisor.deployments.access.policy import DeploymentAccess
from hypervisor.deployments.history.log_position import LogPosition
from hypervisor.errors import NotFound, Unavailable
from hypervisor.kernel.engine_ref import EngineRef
from hypervisor.kernel.log_text import POSITION, LogDecoder, events_of
from hypervisor.lifecycle.states import State
from hypervisor.runtimes.protocol import LogChunk, Runtime, RuntimeUnavailable
from hypervisor.runtimes.registry import RuntimeRegistry
from hypervisor.store.database import Database
from hypervisor.store.tables import Attempt

MAX_TAIL = 1_000_000_000
"""More lines than any log has: the whole output."""
POLL_SECONDS = 0.25
END_SEEN_WITHIN = 10.0
"""The maximum wait in seconds, after the end of the log, for the end of the attempt to be recorded."""
FIRST_ATTEMPT_WITHIN = 2.0
"""The maximum wait in seconds for the first attempt of a new deployment."""
UNFINISHED_SECONDS = 0.5
"""Silence in seconds after which an unfinished line, such as a progress bar, is sent."""
CHUNK = 16 * 1024
"""Bytes that become events at once. So many empty lines keep the event loop busy for some 10 ms."""


async def find_attempt(
    database: Database, access: DeploymentAccess, number: int | None, replica: int
) -> Attempt | None:
    """The attempt of the replica with this number; None for `number`: the last. None: there is none yet.

    Raises NotFound for a number or a replica that does not exist.
    """
    async with database.read() as session:
        attempt = await repository.find_attempt(session, access.deployment_id, number, replica)
    if attempt is None and replica >= access.deployment.replicas:
        raise NotFound("replica_not_found", f"There is no replica {replica} of this deployment.")
    if attempt is None and number is not None:
        raise NotFound("attempt_not_found", f"There is no attempt {number} of this deployment.")
    return attempt


async def await_attempt(database: Database, access: DeploymentAccess, replica: int) -> Attempt | None:
    """The last attempt; waits a moment for a queued deployment, which may be placed.

    Reads the deployment again at each poll: its state is what the wait depends on.
    """
    for _ in range(int(FIRST_ATTEMPT_WITHIN / POLL_SECONDS)):
        async with database.read() as session:
            attempt = await repository.find_attempt(session, access.deployment_id, None, replica)
            deployment = await repository.find(session, access.deployment_id)
        if attempt is not None or deployment is None or deployment.state != State.QUEUED.value:
            return attempt
        await asyncio.sleep(POLL_SECONDS)
    return None


async def read(runtimes: RuntimeRegistry, attempt: Attempt | None, tail: int | None) -> AsyncIterator[bytes]:
    """The last `tail` lines, None for all, in chunks, as the workload wrote them.

    Raises Unavailable when the engine cannot be reached, and RuntimeUnavailable during the iteration.
    """
    if attempt is None:
        return _data(None)
    chunks = _runtime(runtimes, attempt).logs(attempt.instance, tail=tail)
    try:
        return _data(await anext(chunks, None), chunks)
    except RuntimeUnavailable as error:
        raise _unavailable(error) from None


async def check_reachable(runtimes: RuntimeRegistry, attempt: Attempt | None) -> None:
    """Check that the engine can be reached, before the stream begins. Raises Unavailable."""
    if attempt is None:
        return
    try:
        await _runtime(runtimes, attempt).observe([attempt.instance])
    except RuntimeUnavailable as error:
        raise _unavailable(error) from None


async def follow(
    database: Database,
    runtimes: RuntimeRegistry,
    deployment_id: int,
    attempt: Attempt | None,
    begin: int | LogPosition | None,
) -> AsyncGenerator[bytes, None]:
    """Server-sent events: the log as in `hypervisor.kernel.log_text`, then "end" with the deployment's state.

    It begins with the last `begin` lines (None: all), or after a position. Without an attempt the end comes
    at once.
    """
    if attempt is not None:
        decoder = LogDecoder()
        try:
            async for events in _events(decoder, _Followed(database, runtimes, attempt), begin):
                yield events
        except RuntimeUnavailable as error:
            yield events_of(decoder.end()) + _event("error", str(error))
    async with database.read() as session:
        # Read again: the state of the access check is as old as the stream.
        deployment = await repository.find(session, deployment_id)
    yield _event("end", deployment.state if deployment is not None else "DELETED")


async def _data(first: LogChunk | None, rest: AsyncIterator[LogChunk] | None = None) -> AsyncIterator[bytes]:
    yield first.data if first is not None else b""
    if rest is not None:
        async for chunk in rest:
            yield chunk.data


async def _events(
    decoder: LogDecoder, followed: _Followed, begin: int | LogPosition | None
) -> AsyncIterator[bytes]:
    """The output as events. An unfinished line follows when the workload pauses.

    An event `position`, whose data is also its id, names the place so far: where the stream begins, unless
    the client has named it, and after each chunk that ends with a line.
    """
    known = begin.position if isinstance(begin, LogPosition) else None
    has_begun = False
    async with aclosing(with_silences(followed.output(begin), UNFINISHED_SECONDS)) as chunks:
        async for chunk in chunks:
            if chunk is None:
                yield events_of(decoder.flush())
                continue
            for start in range(0, len(chunk.data), CHUNK):
                yield events_of(decoder.feed(chunk.data[start : start + CHUNK]))
            is_place = chunk.data.endswith(b"\n") if has_begun else chunk.position != known
            if is_place:
                yield _position_event(followed.attempt, chunk.position)
            has_begun = True
    yield events_of(decoder.end())


class _Followed:
    """The log of one attempt, until that has ended. Waits for an attempt that is being launched."""

    def __init__(self, database: Database, runtimes: RuntimeRegistry, attempt: Attempt) -> None:
        self._database = database
        self._runtime = _runtime(runtimes, attempt)
        self.attempt = attempt

    async def output(self, begin: int | LogPosition | None) -> AsyncGenerator[LogChunk, None]:
        """The last `begin` lines, or the output after a place, and all output that follows."""
        tail, after = (None, begin.position) if isinstance(begin, LogPosition) else (begin, None)
        wrote = False
        while True:
            async for chunk in self._runtime.logs(self.attempt.instance, tail=tail, after=after, follow=True):
                wrote, after = wrote or bool(chunk.data), chunk.position
                yield chunk
            now = await _reload(self._database, self.attempt)
            if now is None or now.finished_at is not None:
                return
            if wrote or now.started_at is not None:
                await _await_end(self._database, self.attempt)
                return
            await asyncio.sleep(POLL_SECONDS)


async def _await_end(database: Database, attempt: Attempt) -> None:
    """Wait, after the end of the log, until the end of the attempt is recorded."""
    for _ in range(int(END_SEEN_WITHIN / POLL_SECONDS)):
        now = await _reload(database, attempt)
        if now is None or now.finished_at is not None:
            return
        await asyncio.sleep(POLL_SECONDS)


async def _reload(database: Database, attempt: Attempt) -> Attempt | None:
    async with database.read() as session:
        return await session.get(Attempt, attempt.id)


def _runtime(runtimes: RuntimeRegistry, attempt: Attempt) -> Runtime:
    try:
        return runtimes.get(EngineRef(attempt.runtime, attempt.engine_endpoint))
    except KeyError:
        raise Unavailable(
            "runtime_unavailable", f"The runtime {attempt.runtime!r} is not configured on this server."
        ) from None


def _event(name: str, text: str) -> bytes:
    return format_sse_event(data_str=text, event=name)


def _position_event(attempt: Attempt, place: str) -> bytes:
    position = str(LogPosition(attempt.number, place))
    return format_sse_event(data_str=position, event=POSITION, id=position)


def _unavailable(error: RuntimeUnavailable) -> Unavailable:
    return Unavailable(
        "runtime_unavailable", f"The engine of the attempt cannot be reached: {error}. Try again later."
    )
