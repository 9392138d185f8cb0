"""Turns the engine's event stream into hints; reconnects until the runtime is closed."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Final

from aiodocker.exceptions import DockerError

from hypervisor.runtimes.change_hints import ChangeHints
from hypervisor.runtimes.docker.client import DockerClient
from hypervisor.runtimes.docker.config import INSTALL_LABEL, INSTANCE_LABEL
from hypervisor.runtimes.docker.containers import Containers
from hypervisor.runtimes.docker.json_stream import documents
from hypervisor.runtimes.docker.observe import Observer
from hypervisor.runtimes.protocol import RuntimeUnavailable

_FIRST_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 10.0
# A quiet connection may be dead, so it is opened again. That costs little.
_IDLE_SECONDS: Final = 300.0
# Actions that are no hint: those inside a container, and those before the change (a signal that was sent, a
# container that does not run yet). Each hint costs a call to the engine and reads of the database.
_IGNORED_ACTIONS: Final = ("exec_", "top", "attach", "resize", "create", "kill")


class EventListener:
    """One connection to the event stream for all subscribers, opened for the first one."""

    def __init__(
        self,
        client: DockerClient,
        containers: Containers,
        observer: Observer,
        install: str,
        is_starting: Callable[[str], bool],
    ) -> None:
        """`is_starting`: whether this process is starting the instance. Its caller gets the result anyway."""
        self._client = client
        self._containers = containers
        self._observer = observer
        self._is_starting = is_starting
        self._filters = json.dumps({"type": ["container"], "label": [f"{INSTALL_LABEL}={install}"]})
        self._hints = ChangeHints()
        self._task: asyncio.Task[None] | None = None

    def subscribe(self) -> AsyncIterator[str]:
        """Names of changed instances. After each (re)connection all names, because events may be missing.

        Each change makes the observer inspect the container again.
        """
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="engine events")
        return self._hints.subscribe()

    async def close(self) -> None:
        self._hints.close()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            try:
                async for name in self._read_stream():
                    pause = _FIRST_PAUSE
                    self._hints.publish(name)
            except (RuntimeUnavailable, DockerError):
                pause = min(pause * 2, _LONGEST_PAUSE)
            await asyncio.sleep(random.uniform(_FIRST_PAUSE / 2, pause))

    async def _read_stream(self) -> AsyncIterator[str]:
        params = {"filters": self._filters}
        async with self._client.stream("events", params, idle_seconds=_IDLE_SECONDS) as body:
            self._observer.forget()
            for name in await self._containers.summaries():
                yield name
            async for event in documents(body):
                name = _instance(event)
                if name and self._is_hint(str(event.get("Action", "")), name):
                    self._observer.forget(name)
                    yield name

    def _is_hint(self, action: str, name: str) -> bool:
        if action == "start":
            return not self._is_starting(name)
        return not action.startswith(_IGNORED_ACTIONS)


def _instance(event: Mapping[str, Any]) -> str:
    """The instance of an event: its container may have another name."""
    attributes = event.get("Actor", {}).get("Attributes", {})
    return str(attributes.get(INSTANCE_LABEL) or attributes.get("name") or "")
