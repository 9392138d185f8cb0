"""Hints that wake loops at once. A lost hint costs time, never correctness: every loop also polls."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from hypervisor.kernel.failpoints import reached


class Wakeup:
    """Delivers hints to the listening loops of this process and, over a bus, of the other servers.

    Use it only from the thread of the event loop.
    """

    def __init__(self) -> None:
        self._listeners: list[Listener] = []
        self._forward: Callable[[str], None] | None = None

    def forward_to(self, publish: Callable[[str], None]) -> None:
        """Send local hints to other servers with `publish`, which must be quick and must not raise."""
        self._forward = publish

    def notify(self, topic: str) -> None:
        """Wake every listener of the topic, in this process and in others."""
        self.deliver(topic)
        reached("notify_before_publish")
        self.publish(topic)

    def publish(self, topic: str) -> None:
        """Wake every listener of the topic in other processes."""
        if self._forward is not None:
            self._forward(topic)

    def deliver(self, topic: str) -> None:
        """Wake every listener of the topic in this process."""
        for listener in self._listeners:
            if topic in listener.topics:
                listener.set()

    def deliver_all(self) -> None:
        """Wake every loop of this process: any hint may have been missed."""
        for listener in self._listeners:
            listener.set()

    def listen(self, *topics: str) -> Listener:
        """A listener for one loop. It keeps hints that come before its first `wait`."""
        listener = Listener(self, frozenset(topics))
        self._listeners.append(listener)
        return listener

    def forget(self, listener: Listener) -> None:
        if listener in self._listeners:
            self._listeners.remove(listener)


class Listener:
    """The subscription of one loop: any number of hints wake it once."""

    def __init__(self, wakeup: Wakeup, topics: frozenset[str]) -> None:
        self.topics = topics
        self._wakeup = wakeup
        self._event = asyncio.Event()

    def set(self) -> None:
        self._event.set()

    async def wait(self, timeout: float) -> bool:
        """Wait for a hint, at most `timeout` seconds. False on time-out."""
        try:
            async with asyncio.timeout(timeout):
                await self._event.wait()
        except TimeoutError:
            return False
        self._event.clear()
        return True

    def close(self) -> None:
        self._wakeup.forget(self)
