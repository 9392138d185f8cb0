"""The queue index that servers share in Redis or Valkey: one sorted set per cluster.

A score is a float: its 53 bits cannot hold a priority and a time in microseconds. So all scores are equal,
and the members carry the order: priority, time and id in digits of fixed width, compared byte by byte.

A failure of Redis costs only speed: while it is down, slow, or has lost the index, results are None and the
caller counts rows. Changes that could not be sent make the index of their cluster invalid; it is rebuilt.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import suppress
from typing import TypeVar

import structlog
from redis.exceptions import RedisError

from hypervisor.infra.coordination.bus import backoff_seconds
from hypervisor.infra.coordination.queue_index import Change, correct_positions
from hypervisor.infra.coordination.redis_client import open_redis
from hypervisor.infra.coordination.redis_queue_keys import Keys, as_key, as_member
from hypervisor.infra.coordination.redis_scripts import APPLY, INSTALL, LOCATE
from hypervisor.kernel.queue_key import QueueKey

REQUEST_TIMEOUT_SECONDS = 0.5
"""Time-out of a position lookup; after that the caller counts rows."""
BUILD_TIMEOUT_SECONDS = 30.0
SERVER_CHECK_SECONDS = 2.0
"""Interval of the check that the Redis server is still the same."""
INDEX_TTL_SECONDS = 24 * 3600
"""An index that no server maintains any more expires."""
TOMBSTONE_TTL_SECONDS = 60
"""Lifetime of a tombstone: an older change of a slow server must not restore a removed deployment."""
UNFINISHED_TTL_SECONDS = 60
IN_CHUNK = 1000
MAX_PENDING = 100_000

T = TypeVar("T")
log = structlog.get_logger(__name__)


class RedisQueueIndex:
    """The client of one server. It sends changes in the order of the commits of this process."""

    def __init__(self, url: str, install: str, *, answer_seconds: float = REQUEST_TIMEOUT_SECONDS) -> None:
        self._redis = open_redis(url)
        self._keys = Keys(install)
        self._answer_seconds = answer_seconds
        self._apply = self._redis.register_script(APPLY)
        self._locate = self._redis.register_script(LOCATE)
        self._install = self._redis.register_script(INSTALL)
        self._server: str | None = None
        self._pending: list[Change] = []
        self._invalid: set[int] = set()
        self._ready: set[int] = set()
        self._requested: set[int] = set()
        self._sending = asyncio.Lock()
        self._wake = asyncio.Event()
        self._first_try = asyncio.Event()
        self._missing: Callable[[], None] = self._wake.set
        self._task: asyncio.Task[None] | None = None

    @property
    def connected(self) -> bool:
        """Whether Redis answered the last request."""
        return self._server is not None

    def start(self, missing: Callable[[], None]) -> None:
        self._missing = missing
        self._task = asyncio.create_task(self._run(), name="queue-index")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._redis.aclose()

    async def first_answer(self, seconds: float) -> None:
        """Wait until the first try to reach Redis has ended, at most `seconds`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._first_try.wait()

    def ready(self, cluster_id: int) -> bool:
        if self._server is not None and cluster_id in self._ready:
            return True
        self._requested.add(cluster_id)
        self._wake.set()
        return False

    def note(self, changes: Iterable[Change]) -> None:
        self._pending.extend(changes)
        if self._server is None or len(self._pending) > MAX_PENDING:
            self._discard_pending()
        self._wake.set()

    async def positions(self, cluster_id: int, keys: Sequence[QueueKey]) -> list[int] | None:
        async def query(server: str) -> list[int] | None:
            await self._send()
            args: list[str | int] = [server]
            for key in keys:
                args += (as_member(key), key.id)
            found = await self._locate(keys=self._keys.of(cluster_id), args=args)
            if found is None:
                self._unbuilt(cluster_id)
                return None
            counted = zip(map(int, found[::2]), map(_stored_key, found[1::2]), strict=True)
            return correct_positions(keys, list(counted))

        return await self._query(query, self._answer_seconds)

    async def entries(self, cluster_id: int) -> dict[int, QueueKey] | None:
        async def query(server: str) -> dict[int, QueueKey] | None:
            await self._send()
            order, _ = self._keys.of(cluster_id)
            found: dict[int, QueueKey] = {}
            after = "-"
            while chunk := await self._redis.zrange(order, after, "+", bylex=True, offset=0, num=IN_CHUNK):
                members = [str(member) for member in chunk]
                found.update((key.id, key) for key in map(as_key, members))
                after = f"({members[-1]}"
            return found if await self._built([cluster_id], server) else None

        return await self._query(query, BUILD_TIMEOUT_SECONDS)

    async def rebuild(self, cluster_id: int, queued: Sequence[Change]) -> None:
        async def query(server: str) -> bool:
            final, new = self._keys.of(cluster_id), self._keys.being_built(cluster_id)
            members = [(one, as_member(one.key)) for one in queued if one.key is not None]
            await self._redis.hset(new[1], "built", "")
            for start in range(0, len(members), IN_CHUNK):
                await self._add_to(new, members[start : start + IN_CHUNK])
            await self._install(keys=[*final, *new], args=[server, INDEX_TTL_SECONDS])
            self._ready.add(cluster_id)
            return True

        await self._query(query, BUILD_TIMEOUT_SECONDS)

    async def retain(self, cluster_ids: Collection[int]) -> set[int]:
        async def query(server: str) -> set[int]:
            built: set[int] = set()
            ids = sorted(cluster_ids)
            for start in range(0, len(ids), IN_CHUNK):
                chunk = ids[start : start + IN_CHUNK]
                await self._extend_ttl(chunk)
                built |= await self._built(chunk, server)
            return set(ids) - built

        self._ready &= set(cluster_ids)
        return await self._query(query, BUILD_TIMEOUT_SECONDS) or set()

    async def _query(self, run: Callable[[str], Awaitable[T]], seconds: float) -> T | None:
        """The result of `run`, or None while Redis is down. A failure marks it down until the next check."""
        if self._server is None:
            return None
        try:
            async with asyncio.timeout(seconds):
                return await run(self._server)
        except (RedisError, OSError, TimeoutError) as error:
            self._mark_unavailable(error)
            return None

    async def _run(self) -> None:
        failures = 0
        while True:
            try:
                await self._check_server()
                failures = 0
                while self._server is not None:
                    await self._send_for(SERVER_CHECK_SECONDS)
                    await self._check_server()
            except (RedisError, OSError, TimeoutError) as error:
                self._mark_unavailable(error)
            failures += 1
            await asyncio.sleep(backoff_seconds(failures))

    async def _send_for(self, seconds: float) -> None:
        """Send noted changes and check requested clusters, for `seconds` or until Redis fails."""
        over = asyncio.Event()

        def end() -> None:
            over.set()
            self._wake.set()

        timer = asyncio.get_running_loop().call_later(seconds, end)
        try:
            while self._server is not None and not over.is_set():
                await self._wake.wait()
                self._wake.clear()
                async with asyncio.timeout(BUILD_TIMEOUT_SECONDS):
                    await self._send()
                    await self._check_requested()
        finally:
            timer.cancel()

    async def _check_server(self) -> None:
        """Check which Redis server answers, and drop the indexes whose changes it did not receive."""
        async with asyncio.timeout(BUILD_TIMEOUT_SECONDS):
            server = str((await self._redis.info("server"))["run_id"])
            changed = server != self._server
            while self._invalid:
                cluster_id = next(iter(self._invalid))
                await self._redis.unlink(*self._keys.of(cluster_id))
                self._invalid.discard(cluster_id)
                changed = True
        if server != self._server:
            log.info("queue_index.joined", server=server[:8])
            self._server = server
            self._ready.clear()
            self._first_try.set()
        if changed:
            self._missing()

    def _mark_unavailable(self, error: Exception) -> None:
        if self._server is not None or not self._first_try.is_set():
            log.warning("queue_index.redis_unavailable", error=str(error) or type(error).__name__)
        self._server = None
        self._first_try.set()
        self._discard_pending()
        self._wake.set()

    def _discard_pending(self) -> None:
        self._invalid.update(change.cluster_id for change in self._pending)
        self._pending.clear()

    async def _send(self) -> None:
        """Send noted changes to Redis, in order. After a failure their clusters are invalid."""
        async with self._sending:
            server, sent, self._pending = self._server, self._pending, []
            try:
                for cluster_id, changes in itertools.groupby(sent, key=lambda change: change.cluster_id):
                    await self._send_changes(cluster_id, list(changes), server or "")
            except BaseException:
                self._invalid.update(change.cluster_id for change in sent)
                raise

    async def _send_changes(self, cluster_id: int, changes: Sequence[Change], server: str) -> None:
        for start in range(0, len(changes), IN_CHUNK):
            chunk = changes[start : start + IN_CHUNK]
            left = [self._keys.left(cluster_id, one.deployment_id) for one in chunk]
            args: list[str | int] = [server, TOMBSTONE_TTL_SECONDS]
            for one in chunk:
                args += (one.deployment_id, one.generation, as_member(one.key) if one.key else "")
            await self._apply(keys=[*self._keys.of(cluster_id), *left], args=args)

    async def _check_requested(self) -> None:
        while self._requested and self._server is not None:
            cluster_id = self._requested.pop()
            if await self._built([cluster_id], self._server):
                self._ready.add(cluster_id)
            else:
                self._missing()

    async def _built(self, cluster_ids: Sequence[int], server: str) -> set[int]:
        """The clusters whose index is built and complete."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for cluster_id in cluster_ids:
                order, places = self._keys.of(cluster_id)
                pipe.hget(places, "built")
                pipe.hlen(places)
                pipe.zcard(order)
            found = await pipe.execute()
        rows = zip(cluster_ids, found[::3], found[1::3], found[2::3], strict=True)
        return {
            cluster_id
            for cluster_id, built, fields, members in rows
            if built == server and members == fields - 1
        }

    async def _extend_ttl(self, cluster_ids: Sequence[int]) -> None:
        async with self._redis.pipeline(transaction=False) as pipe:
            for key in itertools.chain.from_iterable(map(self._keys.of, cluster_ids)):
                pipe.expire(key, INDEX_TTL_SECONDS)
            await pipe.execute()

    async def _add_to(self, new: tuple[str, str], chunk: Sequence[tuple[Change, str]]) -> None:
        order, places = new
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.zadd(order, {member: 0 for _, member in chunk})
            pipe.hset(places, mapping={str(c.deployment_id): f"{c.generation}:{m}" for c, m in chunk})
            pipe.expire(order, UNFINISHED_TTL_SECONDS)
            pipe.expire(places, UNFINISHED_TTL_SECONDS)
            await pipe.execute()

    def _unbuilt(self, cluster_id: int) -> None:
        self._ready.discard(cluster_id)
        self._missing()


def _stored_key(stored: str) -> QueueKey | None:
    return as_key(stored.partition(":")[2]) if stored else None
