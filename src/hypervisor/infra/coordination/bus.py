"""Hints between replicas: what wakes a loop here wakes it in the other processes too.

A hint is a topic and nothing else, so any number of them until the next turn are one, and none has to arrive:
after each new connection every loop of this process is woken, because anything may have been missed.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import structlog

from hypervisor.infra.wakeup import Wakeup

BATCH_SECONDS = 0.025
"""Between two turns of sending: a burst of commits becomes a few messages, the first goes at once."""
HEARTBEAT_SECONDS = 5.0
ECHO_TIMEOUT_SECONDS = 15.0
SEND_TIMEOUT_SECONDS = 5.0
MIN_BACKOFF_SECONDS, MAX_BACKOFF_SECONDS = 0.1, 10.0

log = structlog.get_logger(__name__)


class Link(Protocol):
    """An open connection to the channel of all replicas; what is sent comes back to the sender as well."""

    async def send(self, payload: str) -> None:
        """Say something to all. Raises whatever its server's client raises."""


MessageHandler = Callable[[str], None]
OpenLink = Callable[[MessageHandler, Callable[[], None]], AbstractAsyncContextManager[Link]]
"""Opens a link. It calls the first argument with each payload, the second one when the connection is lost."""


class Bus:
    """Carries hints over one link, and opens a new one, with jitter, whenever it is lost."""

    def __init__(self, wakeup: Wakeup, connect: OpenLink) -> None:
        self._wakeup = wakeup
        self._connect = connect
        self._me = secrets.token_hex(8)
        self._pending: set[str] = set()
        self._turn = asyncio.Event()
        self._lost = False
        self._heard_at = 0.0
        self._task: asyncio.Task[None] | None = None
        self.connected = False

    def start(self) -> None:
        """Carry hints until `stop`, on the running event loop."""
        self._wakeup.forward_to(self.publish)
        self._task = asyncio.create_task(self._run(), name="bus")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def publish(self, topic: str) -> None:
        """Have it sent soon; while there is no connection, as soon as there is one."""
        self._pending.add(topic)
        self._turn.set()

    async def _run(self) -> None:
        failures = 0
        while True:
            try:
                self._lost = False
                async with self._connect(self._hear, self._lose) as link:
                    failures = 0
                    self._joined()
                    await self._carry(link)
            except Exception as error:
                # Whatever it was, loops go on by polling and the next connection wakes them all.
                tell = log.warning if failures == 0 else log.debug
                tell("bus.disconnected", error=str(error) or type(error).__name__)
            finally:
                self.connected = False
            failures += 1
            await asyncio.sleep(backoff_seconds(failures))

    def _joined(self) -> None:
        self.connected = True
        self._heard_at = _now()
        log.info("bus.connected")
        self._wakeup.deliver_all()

    async def _carry(self, link: Link) -> None:
        while True:
            beat = not await self._wait_for_turn()
            if self._lost or _now() - self._heard_at > ECHO_TIMEOUT_SECONDS:
                raise ConnectionError("the connection was lost")
            async with asyncio.timeout(SEND_TIMEOUT_SECONDS):
                await self._send(link, beat=beat)
            await asyncio.sleep(BATCH_SECONDS)

    async def _wait_for_turn(self) -> bool:
        """False when nothing was to be said for a while."""
        try:
            async with asyncio.timeout(HEARTBEAT_SECONDS):
                await self._turn.wait()
        except TimeoutError:
            return False
        self._turn.clear()
        return True

    async def _send(self, link: Link, *, beat: bool) -> None:
        if beat:
            # One's own words coming back show that both directions work, through any half-open connection.
            await link.send(f"{self._me} ")
        topics, self._pending = self._pending, set()
        if topics:
            try:
                await link.send(" ".join([self._me, *sorted(topics)]))
            except BaseException:
                self._pending |= topics
                raise

    def _hear(self, payload: str) -> None:
        sender, *topics = payload.split(" ")
        if sender == self._me:
            self._heard_at = _now()
            return
        for topic in topics:
            if topic:
                self._wakeup.deliver(topic)

    def _lose(self) -> None:
        self._lost = True
        self._turn.set()


def backoff_seconds(failures: int) -> float:
    """Seconds until the next try to connect: anything up to a bound that doubles from 0.1 to 10 s.

    Full jitter, so that replicas do not come back all at once.
    """
    bound = min(MAX_BACKOFF_SECONDS, MIN_BACKOFF_SECONDS * 2.0 ** min(failures, 10))
    return random.uniform(MIN_BACKOFF_SECONDS, max(MIN_BACKOFF_SECONDS, bound))


def _now() -> float:
    return asyncio.get_running_loop().time()
