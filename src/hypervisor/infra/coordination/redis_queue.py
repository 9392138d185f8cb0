"""The queue index that replicas share in Redis (or Valkey): a sorted set a cluster.

A score is a float: its 53 bits cannot hold a priority and a time in microseconds. So all scores are equal and
the member is the order: priority, time and id in digits of fixed width, compared byte by byte.

Whatever Redis does costs speed only: while it is away, slow, or has lost the index, nothing is answered and
the caller counts rows. What could not be told to it makes the cluster's index invalid, to be built again.
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
from hypervisor.infra.coordination.queue_index import Change, Place, correct_positions
from hypervisor.infra.coordination.redis_client import open_redis
from hypervisor.infra.coordination.redis_queue_keys import Keys, as_member, as_place
from hypervisor.infra.coordination.redis_scripts import APPLY, INSTALL, LOCATE

REQUEST_TIMEOUT_SECONDS = 0.5
"""How long a request waits for a position before it counts rows."""
BUILD_TIMEOUT_SECONDS = 30.0
SERVER_CHECK_SECONDS = 2.0
"""How often to look whether it is still the same server."""
INDEX_TTL_SECONDS = 24 * 3600
"""An index that nobody looks after any more goes by itself."""
TOMBSTONE_TTL_SECONDS = 60
"""How long it is remembered who has left: an older change of a slow replica must not bring them back."""
UNFINISHED_TTL_SECONDS = 60
IN_CHUNK = 1000
MAX_PENDING = 100_000

T = TypeVar("T")
log = structlog.get_logger(__name__)


class RedisQueueIndex:
    """One replica's view of the shared index. Changes are sent in the order of this process's commits."""

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
        self._asked_for: set[int] = set()
        self._sending = asyncio.Lock()
        self._turn = asyncio.Event()
        self._tried = asyncio.Event()
        self._missing: Callable[[], None] = self._turn.set
        self._task: asyncio.Task[None] | None = None

    @property
    def connected(self) -> bool:
        """Whether Redis answered when it was last asked."""
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
        """Wait until Redis has answered or refused once, at most so long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._tried.wait()

    def ready(self, cluster_id: int) -> bool:
        if self._server is not None and cluster_id in self._ready:
            return True
        self._asked_for.add(cluster_id)
        self._turn.set()
        return False

    def note(self, changes: Iterable[Change]) -> None:
        self._pending.extend(changes)
        if self._server is None or len(self._pending) > MAX_PENDING:
            self._give_up_pending()
        self._turn.set()

    async def positions(self, cluster_id: int, places: Sequence[Place]) -> list[int] | None:
        async def ask(server: str) -> list[int] | None:
            await self._send()
            asked: list[str | int] = [server]
            for place in places:
                asked += (as_member(place), place.id)
            found = await self._locate(keys=self._keys.of(cluster_id), args=asked)
            if found is None:
                self._unbuilt(cluster_id)
                return None
            counted = zip(map(int, found[::2]), map(_stored_place, found[1::2]), strict=True)
            return correct_positions(places, list(counted))

        return await self._ask(ask, self._answer_seconds)

    async def entries(self, cluster_id: int) -> dict[int, Place] | None:
        async def ask(server: str) -> dict[int, Place] | None:
            await self._send()
            order, _ = self._keys.of(cluster_id)
            found: dict[int, Place] = {}
            after = "-"
            while chunk := await self._redis.zrange(order, after, "+", bylex=True, offset=0, num=IN_CHUNK):
                members = [str(member) for member in chunk]
                found.update((place.id, place) for place in map(as_place, members))
                after = f"({members[-1]}"
            return found if await self._built([cluster_id], server) else None

        return await self._ask(ask, BUILD_TIMEOUT_SECONDS)

    async def rebuild(self, cluster_id: int, queued: Sequence[Change]) -> None:
        async def ask(server: str) -> bool:
            final, new = self._keys.of(cluster_id), self._keys.being_built(cluster_id)
            placed = [(one, as_member(one.place)) for one in queued if one.place is not None]
            await self._redis.hset(new[1], "built", "")
            for start in range(0, len(placed), IN_CHUNK):
                await self._add_to(new, placed[start : start + IN_CHUNK])
            await self._install(keys=[*final, *new], args=[server, INDEX_TTL_SECONDS])
            self._ready.add(cluster_id)
            return True

        await self._ask(ask, BUILD_TIMEOUT_SECONDS)

    async def retain(self, cluster_ids: Collection[int]) -> set[int]:
        async def ask(server: str) -> set[int]:
            built: set[int] = set()
            wanted = sorted(cluster_ids)
            for start in range(0, len(wanted), IN_CHUNK):
                chunk = wanted[start : start + IN_CHUNK]
                await self._keep(chunk)
                built |= await self._built(chunk, server)
            return set(wanted) - built

        self._ready &= set(cluster_ids)
        return await self._ask(ask, BUILD_TIMEOUT_SECONDS) or set()

    async def _ask(self, question: Callable[[str], Awaitable[T]], seconds: float) -> T | None:
        """Put a question to Redis, None when it is away: after a failure it is, until it is found again."""
        if self._server is None:
            return None
        try:
            async with asyncio.timeout(seconds):
                return await question(self._server)
        except (RedisError, OSError, TimeoutError) as error:
            self._lose(error)
            return None

    async def _run(self) -> None:
        failures = 0
        while True:
            try:
                await self._join()
                failures = 0
                while self._server is not None:
                    await self._serve_until(_now() + SERVER_CHECK_SECONDS)
                    await self._join()
            except (RedisError, OSError, TimeoutError) as error:
                self._lose(error)
            failures += 1
            await asyncio.sleep(backoff_seconds(failures))

    async def _serve_until(self, deadline: float) -> None:
        """Send what is noted and look after what was asked for, for a while or until Redis is lost."""
        while self._server is not None and _now() < deadline:
            try:
                async with asyncio.timeout_at(deadline):
                    await self._turn.wait()
            except TimeoutError:
                return
            self._turn.clear()
            async with asyncio.timeout(BUILD_TIMEOUT_SECONDS):
                await self._send()
                await self._look_for_asked()

    async def _join(self) -> None:
        """Learn which server answers, and make invalid there what it was not told."""
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
            self._tried.set()
        if changed:
            self._missing()

    def _lose(self, error: Exception) -> None:
        if self._server is not None or not self._tried.is_set():
            log.warning("queue_index.redis_unavailable", error=str(error) or type(error).__name__)
        self._server = None
        self._tried.set()
        self._give_up_pending()
        self._turn.set()

    def _give_up_pending(self) -> None:
        self._invalid.update(change.cluster_id for change in self._pending)
        self._pending.clear()

    async def _send(self) -> None:
        """Tell Redis what was noted, in order. What fails is lost to it, so its clusters become invalid."""
        async with self._sending:
            server, sent, self._pending = self._server, self._pending, []
            try:
                for cluster_id, changes in itertools.groupby(sent, key=lambda change: change.cluster_id):
                    await self._send_some(cluster_id, list(changes), server or "")
            except BaseException:
                self._invalid.update(change.cluster_id for change in sent)
                raise

    async def _send_some(self, cluster_id: int, changes: Sequence[Change], server: str) -> None:
        for start in range(0, len(changes), IN_CHUNK):
            chunk = changes[start : start + IN_CHUNK]
            left = [self._keys.left(cluster_id, one.deployment_id) for one in chunk]
            told: list[str | int] = [server, TOMBSTONE_TTL_SECONDS]
            for one in chunk:
                told += (one.deployment_id, one.generation, as_member(one.place) if one.place else "")
            await self._apply(keys=[*self._keys.of(cluster_id), *left], args=told)

    async def _look_for_asked(self) -> None:
        while self._asked_for and self._server is not None:
            cluster_id = self._asked_for.pop()
            if await self._built([cluster_id], self._server):
                self._ready.add(cluster_id)
            else:
                self._missing()

    async def _built(self, cluster_ids: Sequence[int], server: str) -> set[int]:
        """Which of these clusters are built and whole."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for cluster_id in cluster_ids:
                order, places = self._keys.of(cluster_id)
                pipe.hget(places, "built")
                pipe.hlen(places)
                pipe.zcard(order)
            found = await pipe.execute()
        rows = zip(cluster_ids, found[::3], found[1::3], found[2::3], strict=True)
        return {one for one, built, known, ordered in rows if built == server and ordered == known - 1}

    async def _keep(self, cluster_ids: Sequence[int]) -> None:
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


def _stored_place(stored: str) -> Place | None:
    return as_place(stored.partition(":")[2]) if stored else None


def _now() -> float:
    return asyncio.get_running_loop().time()
