"""Hints between servers: a hint that wakes a loop in one process wakes it in the others too.

A hint is only a topic: equal hints within one batch are one. A lost hint is harmless: after each new
connection every loop of this process wakes, because hints may have been lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import structlog

from hypervisor.infra.randomness import random_hex, system_random
from hypervisor.infra.wakeup import Wakeup

BATCH_SECONDS = 0.025
"""Pause between two batches: a burst of commits becomes a few messages. The first one is sent at once."""
HEARTBEAT_SECONDS = 5.0
ECHO_TIMEOUT_SECONDS = 15.0
SEND_TIMEOUT_SECONDS = 5.0
MIN_BACKOFF_SECONDS, MAX_BACKOFF_SECONDS = 0.1, 10.0

log = structlog.get_logger(__name__)


class Link(Protocol):
    """An open connection to the channel of all servers. The sender receives its own messages too."""

    async def send(self, payload: str) -> None:
        """Send to all servers. Raises the errors of the underlying client."""


MessageHandler = Callable[[str], None]
OpenLink = Callable[[MessageHandler, Callable[[], None]], AbstractAsyncContextManager[Link]]
"""Opens a link. It calls the first argument with each payload, the second when the connection is lost."""


class Bus:
    """Sends and receives hints over one link, and opens a new link, with jitter, when it is lost."""

    def __init__(self, wakeup: Wakeup, open_link: OpenLink) -> None:
        self._wakeup = wakeup
        self._open_link = open_link
        self._sender = random_hex(8)
        self._pending: set[str] = set()
        self._wake = asyncio.Event()
        self._lost = False
        self._echo_timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self.connected = False

    def start(self) -> None:
        """Exchange hints until `stop`, on the running event loop."""
        self._wakeup.forward_to(self.publish)
        self._task = asyncio.create_task(self._run(), name="bus")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def publish(self, topic: str) -> None:
        """Send a topic with the next batch, or as soon as there is a connection."""
        self._pending.add(topic)
        self._wake.set()

    async def _run(self) -> None:
        failures = 0
        while True:
            try:
                self._lost = False
                async with self._open_link(self._receive, self._mark_lost) as link:
                    failures = 0
                    self._on_connected()
                    await self._send_batches(link)
            except Exception as error:
                # Any error: loops continue to poll, and the next connection wakes them all.
                write = log.warning if failures == 0 else log.debug
                write("bus.disconnected", error=str(error) or type(error).__name__)
            finally:
                self.connected = False
                self._cancel_echo_timer()
            failures += 1
            await asyncio.sleep(backoff_seconds(failures))

    def _on_connected(self) -> None:
        self.connected = True
        self._note_echo()
        log.info("bus.connected")
        self._wakeup.deliver_all()

    async def _send_batches(self, link: Link) -> None:
        while True:
            idle = not await self._wait_for_topics()
            if self._lost:
                raise ConnectionError("the connection was lost")
            async with asyncio.timeout(SEND_TIMEOUT_SECONDS):
                await self._send(link, heartbeat=idle)
            await asyncio.sleep(BATCH_SECONDS)

    async def _wait_for_topics(self) -> bool:
        """False when there was nothing to send for HEARTBEAT_SECONDS."""
        try:
            async with asyncio.timeout(HEARTBEAT_SECONDS):
                await self._wake.wait()
        except TimeoutError:
            return False
        self._wake.clear()
        return True

    async def _send(self, link: Link, *, heartbeat: bool) -> None:
        if heartbeat:
            # The echo shows that both directions work, also over a half-open connection.
            await link.send(f"{self._sender} ")
        topics, self._pending = self._pending, set()
        if topics:
            try:
                await link.send(" ".join([self._sender, *sorted(topics)]))
            except BaseException:
                self._pending |= topics
                raise

    def _receive(self, payload: str) -> None:
        sender, *topics = payload.split(" ")
        if sender == self._sender:
            self._note_echo()
            return
        for topic in topics:
            if topic:
                self._wakeup.deliver(topic)

    def _note_echo(self) -> None:
        """Both directions work. The link counts as lost unless another echo arrives in time."""
        self._cancel_echo_timer()
        self._echo_timer = asyncio.get_running_loop().call_later(ECHO_TIMEOUT_SECONDS, self._mark_lost)

    def _cancel_echo_timer(self) -> None:
        if self._echo_timer is not None:
            self._echo_timer.cancel()
            self._echo_timer = None

    def _mark_lost(self) -> None:
        self._lost = True
        self._wake.set()


def backoff_seconds(failures: int) -> float:
    """Seconds until the next try to connect: random, up to a bound that doubles from 0.1 to 10 s.

    Full jitter keeps servers from reconnecting all at once.
    """
    bound = min(MAX_BACKOFF_SECONDS, MIN_BACKOFF_SECONDS * 2.0 ** min(failures, 10))
    return system_random().uniform(MIN_BACKOFF_SECONDS, max(MIN_BACKOFF_SECONDS, bound))
