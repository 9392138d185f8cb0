"""Pulls images, once for all concurrent starts, and classifies failed pulls."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import Any, Final

from aiodocker.exceptions import DockerError

from hypervisor.runtimes.docker.client import DockerClient
from hypervisor.runtimes.docker.json_stream import documents
from hypervisor.runtimes.protocol import LaunchFailed

# Engines report a registry's refusal as 404, 500 or inside a 200 stream. Only the messages differ.
_PERMANENT = re.compile(
    r"no such image|not found|manifest unknown|does not exist|access denied|denied:|unauthorized"
    r"|invalid reference|invalid repository|no matching manifest|no basic auth credentials",
    re.IGNORECASE,
)
_TRANSIENT = re.compile(
    r"no such host|timeout|timed out|connection re|i/o|EOF|TLS|toomanyrequests|dial tcp", re.IGNORECASE
)
# An engine reports progress during a pull. After this silence the pull counts as failed.
_IDLE_SECONDS: Final = 600.0


def pull_failure(message: str, status: int = 0) -> LaunchFailed:
    """A failed pull with the engine's message. Retryable unless the image cannot be pulled at all."""
    permanent = status in (400, 401, 403, 404) or _PERMANENT.search(message) is not None
    return LaunchFailed(message, retryable=not permanent or _TRANSIENT.search(message) is not None)


class ImagePuller:
    """Runs at most one pull of an image at a time."""

    def __init__(self, client: DockerClient) -> None:
        self._client = client
        self._pulls: dict[str, asyncio.Task[None]] = {}

    async def pull(self, image: str) -> None:
        """Pull the image, or wait for the running pull of it.

        Raises LaunchFailed, RuntimeUnavailable.
        """
        task = self._pulls.get(image)
        if task is None:
            task = asyncio.create_task(self._pull(image), name=f"pull {image}")
            self._pulls[image] = task
            task.add_done_callback(lambda done: self._forget(image, done))
        # A cancelled start must not cancel the pull for the others.
        await asyncio.shield(task)

    async def close(self) -> None:
        tasks = list(self._pulls.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _pull(self, image: str) -> None:
        params = {"fromImage": image} if _has_tag(image) else {"fromImage": image, "tag": "latest"}
        try:
            async with self._client.stream(
                "images/create", params, method="POST", idle_seconds=_IDLE_SECONDS
            ) as body:
                async for progress in documents(body):
                    _check_progress(progress)
        except DockerError as error:
            raise pull_failure(error.message, error.status) from error

    def _forget(self, image: str, done: asyncio.Task[None]) -> None:
        self._pulls.pop(image, None)
        if not done.cancelled():
            done.exception()  # retrieve it, even if every waiting start was cancelled


def _check_progress(progress: Mapping[str, Any]) -> None:
    message = (progress.get("errorDetail") or {}).get("message") or progress.get("error")
    if message:
        raise pull_failure(str(message))


def _has_tag(image: str) -> bool:
    last = image.rsplit("/", 1)[-1]
    return ":" in last or "@" in last
