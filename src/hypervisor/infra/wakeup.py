"""Hints that wake loops at once. Losing one costs time, never correctness: every loop also polls."""

from __future__ import annotations

import asyncio


class Wakeup:
    """Passes topics on to the loops that listen. Safe to use from the event loop's thread only."""

    def __init__(self) -> None:
        self._listeners: list[Listener] = []

    def notify(self, topic: str) -> None:
        """Wake whoever listens to the topic; nobody listening is fine."""
        for listener in self._listeners:
            if topic in listener.topics:
                listener.set()

    def listen(self, *topics: str) -> Listener:
        """A listener for one loop. Hints given before its first `wait` are not lost."""
        listener = Listener(self, frozenset(topics))
        self._listeners.append(listener)
        return listener

    def forget(self, listener: Listener) -> None:
        if listener in self._listeners:
            self._listeners.remove(listener)


class Listener:
    """One loop's ear: any number of hints wake it once."""

    def __init__(self, wakeup: Wakeup, topics: frozenset[str]) -> None:
        self.topics = topics
        self._wakeup = wakeup
        self._event = asyncio.Event()

    def set(self) -> None:
        self._event.set()

    async def wait(self, timeout: float) -> bool:
        """Wait for a hint, at most `timeout` seconds. True when there was one."""
        try:
            async with asyncio.timeout(timeout):
                await self._event.wait()
        except TimeoutError:
            return False
        self._event.clear()
        return True

    def close(self) -> None:
        self._wakeup.forget(self)
