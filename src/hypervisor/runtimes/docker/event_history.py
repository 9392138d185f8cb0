"""What the engine remembers of a container that is not there any more."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any, Final

from aiodocker.exceptions import DockerError

from hypervisor.runtimes.docker.client import DockerClient
from hypervisor.runtimes.protocol import Observation, ObservedState, RuntimeUnavailable

_SECONDS: Final = 10.0
_ENDS: Final = frozenset({"die", "died"})
_REMOVALS: Final = frozenset({"destroy", "remove"})


class EventHistory:
    """Reads the engine's log of events, which is short: it tells of the last moments only."""

    def __init__(self, engine: DockerClient) -> None:
        self._engine = engine

    async def end_of(self, container: str, created: str) -> Observation | None:
        """How a removed container ended, None if it never ran as far as the engine still knows.

        `created` is the engine's own time of its creation, RFC 3339.
        """
        ended: Observation | None = None
        try:
            async with asyncio.timeout(_SECONDS), aclosing(self._events(container, created)) as events:
                async for event in events:
                    action = str(event.get("Action") or event.get("status"))
                    if action in _ENDS:
                        ended = _ending(event)
                    if action in _REMOVALS:
                        break
        except (TimeoutError, RuntimeUnavailable, DockerError):
            # It forgets fast, and need not answer: the look before the removal has to do then.
            return ended
        return ended

    async def _events(self, container: str, created: str) -> AsyncGenerator[Mapping[str, Any], None]:
        since = int(datetime.fromisoformat(created).timestamp()) - 1
        params = {"since": str(since), "filters": json.dumps({"container": [container]})}
        async with self._engine.stream("events", params, idle_seconds=_SECONDS) as body:
            async for line in body:
                yield json.loads(line)


def _ending(event: Mapping[str, Any]) -> Observation:
    attributes: Mapping[str, str] = event.get("Actor", {}).get("Attributes", {})
    code = attributes.get("exitCode") or attributes.get("containerExitCode")
    at = datetime.fromtimestamp(int(event["time"]), UTC)
    return Observation(
        ObservedState.EXITED,
        exit_code=None if code is None else int(code),
        finished_at=at,
        message=None if code == "0" else "it ended while its start was being taken over",
    )
