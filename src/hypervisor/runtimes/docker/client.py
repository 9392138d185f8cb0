"""The HTTP client of one engine. It alone decides what a failed call means.

Calls and streams (events, followed logs, pulls) use separate connection pools, so that long streams never
delay a short call.
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
# The status that aiodocker uses for "could not connect". The statuses of real responses are below it.
_NOT_CONNECTED: Final = 900
_TRANSPORT_ERRORS = (aiohttp.ClientError, OSError, TimeoutError, ValueError)


class ContainerNotFound(Exception):
    """The engine itself answered that there is no such container."""


class ContainerStateConflict(Exception):
    """The container's state does not allow the request (HTTP 409)."""


class DockerClient:
    """Connects at the first call. Its sessions belong to the event loop of that call."""

    def __init__(self, endpoint: str | None) -> None:
        """`endpoint` is "unix:///path", "tcp://host:port" or None for DOCKER_HOST or the default socket.

        Raises ValueError for any other scheme.
        """
        self.endpoint = endpoint or default_endpoint()
        if not self.endpoint.startswith(_SCHEMES):
            raise ValueError(f"not an engine endpoint (unix:// or tcp://): {self.endpoint!r}")
        self._calls: Docker | None = None
        self._streams: Docker | None = None
        self._is_verified = False

    async def call(self, action: Callable[[Docker], Awaitable[T]], *, seconds: float = CALL_SECONDS) -> T:
        """Run one call.

        Raises DockerError for an error response of the engine, RuntimeUnavailable when there is no response
        within `seconds`.
        """
        try:
            async with asyncio.timeout(seconds):
                docker = self._call_client()
                await self._verify_engine(docker)
                return await action(docker)
        except DockerError as error:
            if error.status >= _NOT_CONNECTED:
                raise self._unavailable(error) from error
            raise
        except _TRANSPORT_ERRORS as error:
            raise self._unavailable(error) from error

    async def call_container(self, action: Callable[[Docker], Awaitable[T]]) -> T:
        """Run one call about containers.

        Raises ContainerNotFound, ContainerStateConflict, and RuntimeUnavailable for any other error: no
        response, 5xx, or a refusal that allows no conclusion.
        """
        try:
            return await self.call(action)
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
        """The body of a long response as a stream. It ends after `idle_seconds` without a byte.

        Raises DockerError as `call` does, RuntimeUnavailable when the connection breaks.
        """
        timeout = aiohttp.ClientTimeout(connect=_CONNECT_SECONDS, sock_read=idle_seconds)
        response: aiohttp.ClientResponse | None = None
        try:
            docker = self._stream_client()
            await self._verify_engine(docker)
            # The log and event readers of aiodocker drop invalid bytes and hide a lost connection.
            async with docker._query(path, method, params=params, timeout=timeout) as response:
                yield response.content
        except DockerError as error:
            if error.status >= _NOT_CONNECTED:
                raise self._unavailable(error) from error
            raise
        except _TRANSPORT_ERRORS as error:
            raise self._unavailable(error) from error
        finally:
            if response is not None:
                response.close()

    async def close(self) -> None:
        """Close all connections. The next call connects again."""
        clients = [client for client in (self._calls, self._streams) if client is not None]
        self._calls = self._streams = None
        for client in clients:
            await client.close()

    async def _verify_engine(self, docker: Docker) -> None:
        """Check once that the server is an engine: a 404 of another server must not count as an answer."""
        if self._is_verified:
            return
        try:
            version = await docker.version()
        except DockerError as error:
            raise self._unavailable(error) from error
        if not isinstance(version, dict) or "ApiVersion" not in version:
            raise RuntimeUnavailable(f"the server at {self.endpoint} is not a container engine")
        self._is_verified = True

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
        reason = error.message if isinstance(error, DockerError) else str(error) or type(error).__name__
        return RuntimeUnavailable(f"no answer from the engine at {self.endpoint}: {reason}")


def is_container_not_found(error: DockerError) -> bool:
    """Whether the engine itself answered "no such container". A proxy's 404 does not count."""
    return error.status == 404 and "no such container" in error.message.lower()
