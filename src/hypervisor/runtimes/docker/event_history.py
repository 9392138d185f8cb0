"""Reads from the engine's event log how a removed container ended."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any, Final

from aiodocker.exceptions import DockerError

from hypervisor.runtimes.docker.client import DockerClient
from hypervisor.runtimes.docker.json_stream import documents
from hypervisor.runtimes.protocol import Observation, ObservedState, RuntimeUnavailable

_SECONDS: Final = 10.0
_ENDS: Final = frozenset({"die", "died"})
_REMOVALS: Final = frozenset({"destroy", "remove"})


class EventHistory:
    """Reads the engine's event log, which only holds recent events."""

    def __init__(self, client: DockerClient) -> None:
        self._client = client

    async def exit_of(self, container: str, created: str) -> Observation | None:
        """The end of a removed container. None if the event log has no run of it.

        `created` is the engine's creation time of the container (RFC 3339).
        """
        ended: Observation | None = None
        try:
            async with asyncio.timeout(_SECONDS), aclosing(self._events(container, created)) as events:
                async for event in events:
                    action = str(event.get("Action") or event.get("status"))
                    if action in _ENDS:
                        ended = _exit_observation(event)
                    if action in _REMOVALS:
                        break
        except (TimeoutError, RuntimeUnavailable, DockerError):
            # The log may be short or unavailable. The caller then relies on the state before the removal.
            return ended
        return ended

    async def _events(self, container: str, created: str) -> AsyncGenerator[Mapping[str, Any], None]:
        since = int(datetime.fromisoformat(created).timestamp()) - 1
        params = {"since": str(since), "filters": json.dumps({"container": [container]})}
        async with self._client.stream("events", params, idle_seconds=_SECONDS) as body:
            async for event in documents(body):
                yield event


def _exit_observation(event: Mapping[str, Any]) -> Observation:
    attributes: Mapping[str, str] = event.get("Actor", {}).get("Attributes", {})
    code = attributes.get("exitCode") or attributes.get("containerExitCode")
    at = datetime.fromtimestamp(int(event["time"]), UTC)
    return Observation(
        ObservedState.EXITED,
        exit_code=None if code is None else int(code),
        finished_at=at,
        message=None if code == "0" else "ended while another scheduler took over its start",
    )
