"""The relay of committed events to live listeners of this process.

A hint after each commit, in this server or another, wakes the relay at once; a poll covers lost hints. Ids
are assigned before transactions commit, so on PostgreSQL a lower id may become visible after a higher one.
The relay looks for skipped ids again until `GAP_SECONDS` have passed.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Collection, Sequence
from dataclasses import dataclass, field
from itertools import chain

from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession
from structlog import get_logger

from hypervisor.infra.wakeup import Wakeup
from hypervisor.kernel.clock import Clock
from hypervisor.store.database import Database
from hypervisor.store.tables import Event

POLL_SECONDS = 2.0
GAP_SECONDS = 15.0
"""Longer than any transaction. An id that is still missing after this time was rolled back."""
MAX_GAPS = 20_000
READ_AT_ONCE = 1000
QUEUE_SIZE = 2000
OVERLAP = 200
"""Number of ids before the newest one that may belong to uncommitted transactions."""
IN_CHUNK = 500
_TOPIC = "events"

log = get_logger(__name__)


class Lagging(Exception):
    """The listener was too slow. It should subscribe again after its last event."""


@dataclass(eq=False)
class Subscription:
    """One listener to the events of one organization; `after` is the highest id at its start."""

    organization_id: int
    after: int
    _queue: asyncio.Queue[Event] = field(default_factory=lambda: asyncio.Queue(QUEUE_SIZE))
    _lagging: bool = False

    @property
    def waiting(self) -> int:
        """Number of events in the queue."""
        return self._queue.qsize()

    async def next(self) -> Event:
        """The next event. Raises Lagging if events were dropped because the queue was full."""
        if self._lagging and self._queue.empty():
            raise Lagging
        return await self._queue.get()

    async def next_batch(self) -> list[Event]:
        """All queued events, at least one. Raises Lagging as `next` does."""
        events = [await self.next()]
        while not self._queue.empty():
            events.append(self._queue.get_nowait())
        return events

    def offer(self, event: Event, *, late: bool = False) -> None:
        """Queue an event without waiting; after the first overflow, drop all events.

        Events up to `after` are ignored, because the listener reads them itself, except `late` ones.
        """
        if self._lagging or (event.id <= self.after and not late):
            return
        if self._queue.full():
            self._lagging = True
            return
        self._queue.put_nowait(event)


class EventRelay:
    """Reads new event rows once for all listeners of this process."""

    def __init__(self, database: Database, clock: Clock, wakeup: Wakeup | None = None) -> None:
        """`wakeup` exchanges hints with other servers; None means no hints."""
        self._database = database
        self._clock = clock
        self._wakeup = wakeup or Wakeup()
        self._listener = self._wakeup.listen(_TOPIC)
        self._subscriptions: dict[int, set[Subscription]] = defaultdict(set)
        self._last: int | None = None
        self._gaps: dict[int, float] = {}
        self._task: asyncio.Task[None] | None = None
        database.after_commit.append(self.hint)

    @property
    def listeners(self) -> int:
        """Number of open streams."""
        return sum(map(len, self._subscriptions.values()))

    @property
    def last_event_id(self) -> int:
        """The highest event id that was read for listeners; 0 without listeners."""
        return self._last or 0

    @property
    def missing_ids(self) -> frozenset[int]:
        """Skipped ids that may still appear."""
        return frozenset(self._gaps)

    def hint(self) -> None:
        """Wake the relay of this server and of the others after a commit."""
        if self._subscriptions:
            self._listener.set()
        self._wakeup.publish(_TOPIC)

    def start(self) -> None:
        """Dispatch events until `stop`, on the running event loop."""
        self._task = asyncio.create_task(self._run(), name="event-relay")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def dispatch_new(self) -> None:
        """Read new events and offer them to the listeners; without listeners read nothing."""
        if not self._subscriptions:
            self._last = None
            self._gaps.clear()
            return
        more = True
        while more:
            async with self._database.read() as session:
                if self._last is None:
                    self._last = self._lowest_start()
                late, new = await self._late_events(session), await self._new_events(session)
            more = len(new) >= READ_AT_ONCE
            self._offer_all(late, late=True)
            self._offer_all(new)

    async def subscribe(self, organization_id: int) -> Subscription:
        """A new subscription: it receives every event with an id above `subscription.after`."""
        async with self._database.read() as session:
            after = await newest_id(session)
        subscription = Subscription(organization_id, after)
        self._subscriptions[organization_id].add(subscription)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        listeners = self._subscriptions.get(subscription.organization_id, set())
        listeners.discard(subscription)
        if not listeners:
            self._subscriptions.pop(subscription.organization_id, None)

    async def _run(self) -> None:
        while True:
            try:
                await self.dispatch_new()
            except (SQLAlchemyError, OSError) as error:
                # Nothing is lost: the next turn continues at the same id.
                log.warning("relay.database_unavailable", error=str(error))
            await self._listener.wait(POLL_SECONDS)

    def _offer_all(self, events: Sequence[Event], *, late: bool = False) -> None:
        for event in events:
            self._track(event.id)
            for subscription in self._subscriptions.get(event.organization_id, ()):
                subscription.offer(event, late=late)

    def _lowest_start(self) -> int:
        subscriptions = chain.from_iterable(self._subscriptions.values())
        lowest = min(subscription.after for subscription in subscriptions)
        return max(0, lowest - OVERLAP)

    async def _new_events(self, session: AsyncSession) -> Sequence[Event]:
        query = select(Event).where(Event.id > self._last).order_by(Event.id).limit(READ_AT_ONCE)
        return (await session.scalars(query)).all()

    async def _late_events(self, session: AsyncSession) -> Sequence[Event]:
        """Committed events whose ids were skipped before."""
        oldest = self._clock.monotonic() - GAP_SECONDS
        self._gaps = {id_: since for id_, since in self._gaps.items() if since > oldest}
        skipped = sorted(self._gaps)
        events: list[Event] = []
        for start in range(0, len(skipped), IN_CHUNK):
            chunk = skipped[start : start + IN_CHUNK]
            events.extend(await session.scalars(select(Event).where(Event.id.in_(chunk)).order_by(Event.id)))
        return events

    def _track(self, id_: int) -> None:
        """Update the last id, and add the ids that were skipped before it."""
        if self._gaps.pop(id_, None) is not None or self._last is None or id_ <= self._last:
            return
        now = self._clock.monotonic()
        free = MAX_GAPS - len(self._gaps)
        for skipped in range(max(self._last + 1, id_ - max(free, 0)), id_):
            self._gaps[skipped] = now
        self._last = id_


async def newest_id(session: AsyncSession, organization_id: int | None = None) -> int:
    """The highest id of the events of an organization, or of all events; 0 without events."""
    query = select(func.max(Event.id))
    if organization_id is not None:
        query = query.where(Event.organization_id == organization_id)
    return await session.scalar(query) or 0


async def history(
    session: AsyncSession,
    *,
    organization_ids: Collection[int] | None = None,
    deployment_id: int | None = None,
    after: int = 0,
    limit: int = READ_AT_ONCE,
) -> Sequence[Event]:
    """Events with ids above `after`, oldest first."""
    # The ids first: an index has them in this order, while a query for whole rows may scan all events.
    ids = select(Event.id).where(Event.id > after).order_by(Event.id).limit(limit)
    if organization_ids is not None:
        ids = ids.where(Event.organization_id.in_(sorted(organization_ids)))
    if deployment_id is not None:
        ids = ids.where(Event.deployment_id == deployment_id)
    matching = list(await session.scalars(ids))
    if not matching:
        return []
    return (await session.scalars(select(Event).where(Event.id.in_(matching)).order_by(Event.id))).all()


async def follow(
    relay: EventRelay, database: Database, organization_id: int, after: int | None
) -> AsyncGenerator[Sequence[Event], None]:
    """The events of an organization in batches: first those after `after`, then new ones as they arrive.

    `after` None starts with new events. Ends when the listener is too slow; it may then start again after its
    last event.
    """
    subscription = await relay.subscribe(organization_id)
    replayed: set[int] = set()
    try:
        async for missed in _missed(database, subscription, after):
            replayed.update(event.id for event in missed)
            yield missed
        while True:
            try:
                events = await subscription.next_batch()
            except Lagging:
                return
            if new := [event for event in events if event.id not in replayed]:
                yield new
    finally:
        relay.unsubscribe(subscription)


async def _missed(
    database: Database, subscription: Subscription, after: int | None
) -> AsyncGenerator[Sequence[Event], None]:
    """The events between `after` and the start of the subscription."""
    last = subscription.after if after is None else after
    while last < subscription.after:
        async with database.read() as session:
            rows = await history(session, organization_ids=[subscription.organization_id], after=last)
        if missed := [event for event in rows if event.id <= subscription.after]:
            yield missed
        last = rows[-1].id if rows else subscription.after
