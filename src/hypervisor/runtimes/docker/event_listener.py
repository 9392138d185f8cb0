"""Hints from the engine's event stream, reconnecting until the runtime is closed."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable
from typing import Final

from aiodocker.exceptions import DockerError

from hypervisor.runtimes.change_hints import ChangeHints
from hypervisor.runtimes.docker.client import DockerClient
from hypervisor.runtimes.docker.config import INSTALL_LABEL
from hypervisor.runtimes.docker.observe import Observer
from hypervisor.runtimes.protocol import RuntimeUnavailable

_FIRST_WAIT: Final = 0.2
_LONGEST_WAIT: Final = 10.0
# A connection that died without a word looks like a quiet one; a new one costs little.
_IDLE_SECONDS: Final = 300.0
# What happens inside a container, and what only announces a change: a signal that was sent, a container that
# is there and does not run yet. Each hint costs a look at the engine and reads of the database.
_NO_NEWS: Final = ("exec_", "top", "attach", "resize", "create", "kill")


class EventListener:
    """One connection to the event stream for all who listen, opened for the first of them."""

    def __init__(
        self, engine: DockerClient, observer: Observer, install: str, is_starting: Callable[[str], bool]
    ) -> None:
        """`is_starting` tells what this process is just starting: who asked for that is told how it went."""
        self._engine = engine
        self._observer = observer
        self._is_starting = is_starting
        self._filters = json.dumps({"type": ["container"], "label": [f"{INSTALL_LABEL}={install}"]})
        self._hints = ChangeHints()
        self._task: asyncio.Task[None] | None = None

    def listen(self) -> AsyncIterator[str]:
        """Names as they change; after each (re)connection all of them, for what was missed."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="engine events")
        return self._hints.subscribe()

    async def close(self) -> None:
        self._hints.close()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        wait = _FIRST_WAIT
        while True:
            try:
                async for name in self._one_connection():
                    wait = _FIRST_WAIT
                    self._hints.publish(name)
            except (RuntimeUnavailable, DockerError):
                wait = min(wait * 2, _LONGEST_WAIT)
            await asyncio.sleep(random.uniform(_FIRST_WAIT / 2, wait))

    async def _one_connection(self) -> AsyncIterator[str]:
        params = {"filters": self._filters}
        async with self._engine.stream("events", params, idle_seconds=_IDLE_SECONDS) as body:
            for name in await self._observer.names():
                yield name
            async for line in body:
                event = json.loads(line)
                name = str(event.get("Actor", {}).get("Attributes", {}).get("name") or "")
                if name and self._is_news(str(event.get("Action", "")), name):
                    yield name

    def _is_news(self, action: str, name: str) -> bool:
        if action == "start":
            return not self._is_starting(name)
        return not action.startswith(_NO_NEWS)
