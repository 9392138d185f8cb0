"""Ending containers: SIGTERM now, SIGKILL at a deadline that no later call can push away.

The engine's own "stop with a timeout" is not used: its deadline is in whole seconds, and some versions kill
at once when the client that asked goes away.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Final

from hypervisor.runtimes.docker.client import ContainerNotFound, ContainerStateConflict, DockerClient
from hypervisor.runtimes.docker.config import is_container_name
from hypervisor.runtimes.protocol import RuntimeUnavailable

_RETRY_SECONDS: Final = 1.0
# The kernel drops a SIGTERM to a PID 1 that has not set up its handlers; it is repeated to the very young.
_YOUNG_SECONDS: Final = 1.0


class DeadlineFiles:
    """When each container is due to be killed (seconds since the epoch), for the next process to know."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def write(self, name: str, due: float) -> None:
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._file(self._folder, name).write_text(repr(due))

    def read(self, name: str) -> float | None:
        if self._folder is None:
            return None
        try:
            return float(self._file(self._folder, name).read_text())
        except (FileNotFoundError, ValueError):
            return None

    def delete(self, name: str) -> None:
        if self._folder is not None:
            self._file(self._folder, name).unlink(missing_ok=True)

    @staticmethod
    def _file(folder: Path, name: str) -> Path:
        return folder / f"{name}.stopping"


class Stopper:
    """Remembers when each container that was asked to end is to be killed."""

    def __init__(self, engine: DockerClient, folder: Path | None) -> None:
        """With a `folder`, deadlines survive this process; without, a restart begins the grace anew."""
        self._engine = engine
        self._files = DeadlineFiles(folder)
        self._started: dict[str, float] = {}
        self._due: dict[str, float] = {}
        self._timers: dict[str, asyncio.Task[None]] = {}
        self._asking: dict[str, asyncio.Task[bool]] = {}

    def started(self, name: str) -> None:
        """This process has just started it."""
        now = time.monotonic()
        self._started = {other: at for other, at in self._started.items() if now - at < _YOUNG_SECONDS}
        self._started[name] = now

    async def stop(self, name: str, grace_seconds: float) -> None:
        """Ask once, and arm the kill; a further call can only bring the deadline forward.

        Raises RuntimeUnavailable, and then nothing is armed.
        """
        if not is_container_name(name):
            return
        due = time.time() + grace_seconds
        known = self._due.get(name) or self._files.read(name)
        if known is not None:
            self._arm(name, min(due, known))
        elif await self._ask_to_end(name):
            self._files.write(name, due)
            self._arm(name, due)

    def forget(self, name: str) -> None:
        """The container has ended: nothing is left to kill."""
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()
        self._due.pop(name, None)
        self._started.pop(name, None)
        self._files.delete(name)

    async def close(self) -> None:
        tasks = [*self._timers.values(), *self._asking.values()]
        self._timers.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask_to_end(self, name: str) -> bool:
        """SIGTERM, once for all callers that come at the same time; whether it was running."""
        task = self._asking.get(name)
        if task is None:
            task = asyncio.create_task(self._signal(name, "SIGTERM"), name=f"stop {name}")
            self._asking[name] = task
            task.add_done_callback(lambda done: self._asked(name, done))
        return await asyncio.shield(task)

    def _asked(self, name: str, done: asyncio.Task[bool]) -> None:
        del self._asking[name]
        if not done.cancelled():
            done.exception()  # seen, even when the callers have gone

    def _arm(self, name: str, due: float) -> None:
        timer = self._timers.get(name)
        if timer is not None and self._due.get(name, due) <= due:
            return
        if timer is not None:
            timer.cancel()
        self._due[name] = due
        self._timers[name] = asyncio.create_task(self._kill_at(name, due), name=f"kill {name}")

    async def _kill_at(self, name: str, due: float) -> None:
        age = time.monotonic() - self._started.get(name, float("-inf"))
        if age < _YOUNG_SECONDS < age + due - time.time():
            await asyncio.sleep(_YOUNG_SECONDS - age)
            await self._signal_surely(name, "SIGTERM")
        await asyncio.sleep(max(0.0, due - time.time()))
        await self._signal_surely(name, "SIGKILL")
        self._timers.pop(name, None)
        self.forget(name)

    async def _signal_surely(self, name: str, signal: str) -> None:
        """Again and again while the engine cannot be reached."""
        while True:
            try:
                await self._signal(name, signal)
            except RuntimeUnavailable:
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                return

    async def _signal(self, name: str, signal: str) -> bool:
        """Whether there was a running container to send it to."""
        try:
            await self._engine.ask(lambda docker: docker.containers.container(name).kill(signal=signal))
        except (ContainerNotFound, ContainerStateConflict):
            return False
        return True
