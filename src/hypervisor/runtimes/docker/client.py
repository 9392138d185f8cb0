"""The connection to one engine, and the one place that decides what a failed call means.

Calls and streams (events, followed logs, pulls) have connection pools of their own, so that many long
streams never keep a short call waiting.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

import aiohttp
from aiodocker import Docker
from aiodocker.exceptions import DockerError

from hypervisor.runtimes.docker.endpoint import default_endpoint
from hypervisor.runtimes.protocol import RuntimeUnavailable

T = TypeVar("T")

CALL_SECONDS: Final = 30.0
LAUNCH_SECONDS: Final = 120.0

_SCHEMES: Final = ("unix://", "tcp://", "http://", "https://")
_CONNECT_SECONDS: Final = 10.0
# aiodocker's own status for "could not connect"; real answers are below.
_NO_ANSWER: Final = 900
_TROUBLE = (aiohttp.ClientError, OSError, TimeoutError, ValueError)


class ContainerNotFound(Exception):
    """Said by the engine itself, in so many words."""


class ContainerStateConflict(Exception):
    """The engine knows the container, and what was asked does not fit its state (HTTP 409)."""


class DockerClient:
    """A lazily opened connection; sessions belong to the event loop that makes the first call."""

    def __init__(self, endpoint: str | None) -> None:
        """`endpoint` is "unix:///path", "tcp://host:port" or None for DOCKER_HOST or the default socket.

        Raises ValueError for any other scheme.
        """
        self.endpoint = endpoint or default_endpoint()
        if not self.endpoint.startswith(_SCHEMES):
            raise ValueError(f"not an engine endpoint (unix:// or tcp://): {self.endpoint!r}")
        self._calls: Docker | None = None
        self._streams: Docker | None = None
        self._is_an_engine = False

    async def attempt(self, action: Callable[[Docker], Awaitable[T]], *, seconds: float = CALL_SECONDS) -> T:
        """Run one call; any error that the engine really answered passes as DockerError.

        Raises RuntimeUnavailable when there was no answer within `seconds`.
        """
        try:
            async with asyncio.timeout(seconds):
                docker = self._call_client()
                await self._shake_hands(docker)
                return await action(docker)
        except DockerError as error:
            if error.status >= _NO_ANSWER:
                raise self._unavailable(error) from error
            raise
        except _TROUBLE as error:
            raise self._unavailable(error) from error

    async def ask(self, action: Callable[[Docker], Awaitable[T]]) -> T:
        """One call about containers. Raises NoSuchContainer, WrongState, and RuntimeUnavailable for any
        other error: no answer, 5xx, or a refusal from which nothing may be concluded."""
        try:
            return await self.attempt(action)
        except DockerError as error:
            if is_container_not_found(error):
                raise ContainerNotFound(error.message) from error
            if error.status == 409:
                raise ContainerStateConflict(error.message) from error
            raise self._unavailable(error) from error

    @asynccontextmanager
    async def stream(
        self, path: str, params: Mapping[str, Any], *, method: str = "GET", idle_seconds: float | None = None
    ) -> AsyncIterator[aiohttp.StreamReader]:
        """The body of a long answer, read as it comes; `idle_seconds` without a byte end it.

        Raises DockerError as `attempt` does, RuntimeUnavailable when the connection fails half-way.
        """
        timeout = aiohttp.ClientTimeout(connect=_CONNECT_SECONDS, sock_read=idle_seconds)
        response: aiohttp.ClientResponse | None = None
        try:
            docker = self._stream_client()
            await self._shake_hands(docker)
            # aiodocker's own log and event readers drop broken bytes and end silently on a lost connection.
            async with docker._query(path, method, params=params, timeout=timeout) as response:
                yield response.content
        except DockerError as error:
            if error.status >= _NO_ANSWER:
                raise self._unavailable(error) from error
            raise
        except _TROUBLE as error:
            raise self._unavailable(error) from error
        finally:
            if response is not None:
                response.close()

    async def close(self) -> None:
        clients = [client for client in (self._calls, self._streams) if client is not None]
        self._calls = self._streams = None
        for client in clients:
            await client.close()

    async def _shake_hands(self, docker: Docker) -> None:
        """Once: whatever answers here must say an engine's version, or its 404s would be believed."""
        if self._is_an_engine:
            return
        try:
            version = await docker.version()
        except DockerError as error:
            raise self._unavailable(error) from error
        if not isinstance(version, dict) or "ApiVersion" not in version:
            raise RuntimeUnavailable(f"what answers at {self.endpoint} is not a container engine")
        self._is_an_engine = True

    def _call_client(self) -> Docker:
        if self._calls is None:
            self._calls = self._open()
        return self._calls

    def _stream_client(self) -> Docker:
        if self._streams is None:
            self._streams = self._open()
        return self._streams

    def _open(self) -> Docker:
        return Docker(url=self.endpoint, timeout=aiohttp.ClientTimeout(sock_connect=_CONNECT_SECONDS))

    def _unavailable(self, error: BaseException) -> RuntimeUnavailable:
        words = error.message if isinstance(error, DockerError) else str(error) or type(error).__name__
        return RuntimeUnavailable(f"no answer from the engine at {self.endpoint}: {words}")


def is_container_not_found(error: DockerError) -> bool:
    """Whether this is the engine's own "no such container", and not just any 404 on the way to it."""
    return error.status == 404 and "no such container" in error.message.lower()
