"""Handing "this instance may have changed" from a runtime to whoever listens."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterator


class ChangeHints:
    """Fans hints out to every subscriber. A name that waits to be read is not queued twice, so a slow
    reader costs no more than one entry an instance."""

    def __init__(self) -> None:
        self._subscriptions: weakref.WeakSet[_Subscription] = weakref.WeakSet()
        self._closed = False

    def publish(self, instance: str) -> None:
        for subscription in list(self._subscriptions):
            subscription.add(instance)

    def subscribe(self) -> AsyncIterator[str]:
        """Hints from this moment on; the iterator ends when the runtime is closed."""
        subscription = _Subscription()
        self._subscriptions.add(subscription)
        if self._closed:
            subscription.close()
        return subscription

    def close(self) -> None:
        self._closed = True
        for subscription in list(self._subscriptions):
            subscription.close()


class _Subscription:
    def __init__(self) -> None:
        self._waiting: dict[str, None] = {}
        self._wake = asyncio.Event()
        self._closed = False

    def add(self, instance: str) -> None:
        self._waiting[instance] = None
        self._wake.set()

    def close(self) -> None:
        self._closed = True
        self._wake.set()

    def __aiter__(self) -> AsyncIterator[str]:
        return self

    async def __anext__(self) -> str:
        while not self._waiting:
            if self._closed:
                raise StopAsyncIteration
            self._wake.clear()
            await self._wake.wait()
        instance = next(iter(self._waiting))
        del self._waiting[instance]
        return instance
