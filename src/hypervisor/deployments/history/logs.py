"""The log of an attempt: its last lines as bytes, or a stream of events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing

from fastapi.sse import format_sse_event

from hypervisor.api.streams import with_silences
from hypervisor.deployments.access import repository
from hypervisor.deployments.access.policy import DeploymentAccess
from hypervisor.deployments.history.log_position import (
    WINDOW,
    LogMoved,
    LogPosition,
    PositionTracker,
    after,
    offset_of,
)
from hypervisor.errors import NotFound, Unavailable
from hypervisor.kernel.engine_ref import EngineRef
from hypervisor.kernel.log_text import POSITION, LogDecoder, events_of
from hypervisor.lifecycle.states import State
from hypervisor.runtimes.protocol import Runtime, RuntimeUnavailable
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
MOVES = 5
"""How often the oldest output may be deleted between two reads while a stream is resumed."""
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
        return _chain(b"")
    chunks = _runtime(runtimes, attempt).logs(attempt.instance, tail=tail)
    try:
        return _chain(await anext(chunks, b""), chunks)
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


async def _chain(first: bytes, rest: AsyncIterator[bytes] | None = None) -> AsyncIterator[bytes]:
    yield first
    if rest is not None:
        async for data in rest:
            yield data


async def _events(
    decoder: LogDecoder, followed: _Followed, begin: int | LogPosition | None
) -> AsyncIterator[bytes]:
    """The output as events. An unfinished line follows when the workload pauses.

    An event `position`, whose data is also its id, names the place after the last finished line.
    """
    if isinstance(begin, LogPosition):
        tracker, output = PositionTracker(begin), followed.after(begin)
    else:
        tracker, output = PositionTracker(await followed.position(begin)), followed.tail(begin)
        if begin == 0:
            yield _position_event(tracker)
    async with aclosing(with_silences(output, UNFINISHED_SECONDS)) as chunks:
        is_new = True
        async for data in chunks:
            if data is None and is_new and not tracker.position.sent:
                # There was no output yet.
                yield _position_event(tracker)
            is_new = False
            for events in _events_of_chunk(decoder, tracker, data):
                yield events
    yield events_of(decoder.end())


def _events_of_chunk(decoder: LogDecoder, tracker: PositionTracker, data: bytes | None) -> Iterator[bytes]:
    if data is None:
        yield events_of(decoder.flush())
        return
    for start in range(0, len(data), CHUNK):
        pieces, has_moved = (
            decoder.feed(data[start : start + CHUNK]),
            tracker.feed(data[start : start + CHUNK]),
        )
        if not has_moved:
            yield events_of(pieces)
            continue
        ends = max(index for index, piece in enumerate(pieces, 1) if piece.endswith("\n"))
        yield events_of(pieces[:ends]) + _position_event(tracker) + events_of(pieces[ends:])


class _Followed:
    """The log of one attempt, until that has ended. Waits for an attempt that is being launched."""

    def __init__(self, database: Database, runtimes: RuntimeRegistry, attempt: Attempt) -> None:
        self._database = database
        self._runtime = _runtime(runtimes, attempt)
        self._attempt = attempt

    async def position(self, tail: int | None) -> LogPosition:
        """The place before the last `tail` lines, as far as a stream needs it: with `tail` 0, the end."""
        window = b""
        if tail == 0:
            async for data in self._stored(tail=1):
                window = (window + data)[-WINDOW:]
        return LogPosition(self._attempt.number, 0, window)

    def tail(self, lines: int | None) -> AsyncGenerator[bytes, None]:
        """The last lines, and all output that follows."""
        return self._until_ended(lambda: self._runtime.logs(self._attempt.instance, tail=lines, follow=True))

    def after(self, position: LogPosition) -> AsyncGenerator[bytes, None]:
        """The output after a place."""
        return self._until_ended(lambda: self._after(position))

    async def _after(self, position: LogPosition) -> AsyncIterator[bytes]:
        for _ in range(MOVES):
            offset = await offset_of(position, self._stored())
            output = self._runtime.logs(self._attempt.instance, follow=True)
            try:
                async for data in after(offset, position, output):
                    yield data
                return
            except LogMoved:
                continue
        raise RuntimeUnavailable("the log is rotated faster than it can be read")

    def _stored(self, tail: int | None = None) -> AsyncIterator[bytes]:
        return self._runtime.logs(self._attempt.instance, tail=tail)

    async def _until_ended(self, read: Callable[[], AsyncIterator[bytes]]) -> AsyncGenerator[bytes, None]:
        wrote = False
        while True:
            async for data in read():
                wrote = True
                yield data
            now = await _reload(self._database, self._attempt)
            if now is None or now.finished_at is not None:
                return
            if wrote or now.started_at is not None:
                await _await_end(self._database, self._attempt)
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


def _position_event(tracker: PositionTracker) -> bytes:
    position = str(tracker.position)
    return format_sse_event(data_str=position, event=POSITION, id=position)


def _unavailable(error: RuntimeUnavailable) -> Unavailable:
    return Unavailable(
        "runtime_unavailable", f"The engine of the attempt cannot be reached: {error}. Try again later."
    )
