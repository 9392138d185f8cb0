"""Pulling images: one pull an image however many starts wait for it, and what a failed pull means."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Final

from aiodocker.exceptions import DockerError

from hypervisor.runtimes.docker.client import DockerClient
from hypervisor.runtimes.protocol import LaunchFailed

# Engines report registry refusals as 404, 500 or inside a 200 stream; only their words tell them apart.
_FOR_GOOD = re.compile(
    r"no such image|not found|manifest unknown|does not exist|access denied|denied:|unauthorized"
    r"|invalid reference|invalid repository|no matching manifest|no basic auth credentials",
    re.IGNORECASE,
)
_TROUBLE = re.compile(
    r"no such host|timeout|timed out|connection re|i/o|EOF|TLS|toomanyrequests|dial tcp", re.IGNORECASE
)
# An engine reports progress all the time; this much silence means that nobody is pulling any more.
_SILENT_SECONDS: Final = 600.0


def pull_failure(words: str, status: int = 0) -> LaunchFailed:
    """A failed pull in the engine's words; retryable unless the image is not there to be had."""
    for_good = status in (400, 401, 403, 404) or _FOR_GOOD.search(words) is not None
    return LaunchFailed(words, retryable=not for_good or _TROUBLE.search(words) is not None)


class ImagePuller:
    def __init__(self, engine: DockerClient) -> None:
        self._engine = engine
        self._pulls: dict[str, asyncio.Task[None]] = {}

    async def pull(self, image: str) -> None:
        """Pull, or wait for the pull of this image that is under way.

        Raises LaunchFailed, RuntimeUnavailable.
        """
        task = self._pulls.get(image)
        if task is None:
            task = asyncio.create_task(self._pull(image), name=f"pull {image}")
            self._pulls[image] = task
            task.add_done_callback(lambda done: self._forget(image, done))
        # One start that is given up must not take the image away from the others.
        await asyncio.shield(task)

    async def close(self) -> None:
        tasks = list(self._pulls.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _pull(self, image: str) -> None:
        params = {"fromImage": image} if _has_tag(image) else {"fromImage": image, "tag": "latest"}
        try:
            async with self._engine.stream(
                "images/create", params, method="POST", idle_seconds=_SILENT_SECONDS
            ) as body:
                async for line in body:
                    _check_progress(line)
        except DockerError as error:
            raise pull_failure(error.message, error.status) from error

    def _forget(self, image: str, done: asyncio.Task[None]) -> None:
        self._pulls.pop(image, None)
        if not done.cancelled():
            done.exception()  # seen, even when every start that waited for it has been given up


def _check_progress(line: bytes) -> None:
    if not line.strip():
        return
    progress = json.loads(line)
    words = (progress.get("errorDetail") or {}).get("message") or progress.get("error")
    if words:
        raise pull_failure(str(words))


def _has_tag(image: str) -> bool:
    last = image.rsplit("/", 1)[-1]
    return ":" in last or "@" in last
