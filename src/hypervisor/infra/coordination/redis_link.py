"""A link over Redis publish/subscribe."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from redis.asyncio import Redis
from redis.asyncio.client import PubSub

from hypervisor.infra.coordination.bus import Link, MessageHandler, OpenLink
from hypervisor.infra.coordination.redis_client import open_redis

SUBSCRIBE_TIMEOUT_SECONDS = 5.0
_LISTEN_SECONDS = 1.0


def redis_link(url: str, channel: str) -> OpenLink:
    """Links over a channel of the Redis at `url`."""

    @asynccontextmanager
    async def connect(receive: MessageHandler, mark_lost: Callable[[], None]) -> AsyncIterator[Link]:
        async with open_redis(url, retrying=False) as client, client.pubsub() as subscription:
            async with asyncio.timeout(SUBSCRIBE_TIMEOUT_SECONDS):
                await _subscribe(subscription, channel)
            listening = asyncio.create_task(_listen(subscription, receive), name="redis-link")
            listening.add_done_callback(lambda _: mark_lost())
            try:
                yield _RedisLink(client, channel)
            finally:
                listening.cancel()
                await asyncio.gather(listening, return_exceptions=True)

    return connect


class _RedisLink:
    def __init__(self, client: Redis, channel: str) -> None:
        self._client = client
        self._channel = channel

    async def send(self, payload: str) -> None:
        await self._client.publish(self._channel, payload)


async def _subscribe(subscription: PubSub, channel: str) -> None:
    """Subscribe and wait for the confirmation: later messages are not lost."""
    await subscription.subscribe(channel)
    while (await subscription.get_message(timeout=_LISTEN_SECONDS) or {}).get("type") != "subscribe":
        pass


async def _listen(subscription: PubSub, receive: MessageHandler) -> None:
    while True:
        message = await subscription.get_message(ignore_subscribe_messages=True, timeout=_LISTEN_SECONDS)
        if message is not None:
            receive(message["data"])
