"""Hints that an instance may have changed, from a runtime to its subscribers."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterator


class ChangeHints:
    """Publishes each hint to every subscriber.

    A name that is already pending for a subscriber is not queued again, so a slow reader holds at most one
    entry for each instance.
    """

    def __init__(self) -> None:
        self._subscriptions: weakref.WeakSet[_Subscription] = weakref.WeakSet()
        self._closed = False

    def publish(self, instance: str) -> None:
        """Send one hint to the current subscribers."""
        for subscription in list(self._subscriptions):
            subscription.add(instance)

    def subscribe(self) -> AsyncIterator[str]:
        """Return the hints from now on. The iterator ends when the runtime is closed."""
        subscription = _Subscription()
        self._subscriptions.add(subscription)
        if self._closed:
            subscription.close()
        return subscription

    def close(self) -> None:
        """End every subscription."""
        self._closed = True
        for subscription in list(self._subscriptions):
            subscription.close()


class _Subscription:
    def __init__(self) -> None:
        self._pending: dict[str, None] = {}
        self._wake = asyncio.Event()
        self._closed = False

    def add(self, instance: str) -> None:
        self._pending[instance] = None
        self._wake.set()

    def close(self) -> None:
        self._closed = True
        self._wake.set()

    def __aiter__(self) -> AsyncIterator[str]:
        return self

    async def __anext__(self) -> str:
        while not self._pending:
            if self._closed:
                raise StopAsyncIteration
            self._wake.clear()
            await self._wake.wait()
        instance = next(iter(self._pending))
        del self._pending[instance]
        return instance
