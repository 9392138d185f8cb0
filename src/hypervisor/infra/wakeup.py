"""Hints that wake a loop at once. Losing one costs time, never correctness: every loop also polls."""

from __future__ import annotations

import asyncio


class Wakeup:
    """A coalescing hint for ONE waiting loop: any number of notifications wake it once.

    Safe to call from the event loop's thread only.
    """

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self._topics: set[str] = set()

    def notify(self, topic: str) -> None:
        """Remember the topic and wake the waiter; a hint given before `wait` is not lost."""
        self._topics.add(topic)
        self._event.set()

    async def wait(self, timeout: float) -> frozenset[str]:
        """The topics since the last call, at most `timeout` seconds later; empty when the time ran out."""
        try:
            async with asyncio.timeout(timeout):
                await self._event.wait()
        except TimeoutError:
            pass
        self._event.clear()
        topics, self._topics = frozenset(self._topics), set()
        return topics
