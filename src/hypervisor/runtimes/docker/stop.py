"""Stops containers: the stop signal at once, SIGKILL at a deadline that a later call cannot postpone.

The stop signal is that of the container, which has it from its image (STOPSIGNAL), else SIGTERM.
The engine's "stop with a timeout" is not used: its timeout is in whole seconds, and some versions kill the
container at once when the client disconnects.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import Final

from hypervisor.runtimes.docker.client import DockerClient
from hypervisor.runtimes.docker.config import is_container_name
from hypervisor.runtimes.docker.containers import Containers
from hypervisor.runtimes.docker.observe import observed_state
from hypervisor.runtimes.docker.removal import delete_container
from hypervisor.runtimes.docker.signals import send_signal, send_stop_signal
from hypervisor.runtimes.protocol import ObservedState, RuntimeUnavailable

_RETRY_SECONDS: Final = 1.0
# The kernel drops a signal to a PID 1 without a handler, so a container this young gets it a second time.
_YOUNG_SECONDS: Final = 1.0


class DeadlineFiles:
    """Stores the kill deadline of each container (seconds since the epoch) for the next process.

    Beside it is the start time of the run that got the stop signal, as the engine writes it.
    """

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory

    def write(self, name: str, due: float, run: str) -> None:
        if self._directory is not None:
            self._directory.mkdir(parents=True, exist_ok=True)
            self._file(self._directory, name).write_text(f"{due!r} {run}")

    def read(self, name: str) -> tuple[float, str] | None:
        """The deadline and the run; the run is empty in the file of an older version."""
        if self._directory is None:
            return None
        try:
            due, _, run = self._file(self._directory, name).read_text().partition(" ")
            return float(due), run
        except (FileNotFoundError, ValueError):
            return None

    def delete(self, name: str) -> None:
        if self._directory is not None:
            self._file(self._directory, name).unlink(missing_ok=True)

    @staticmethod
    def _file(directory: Path, name: str) -> Path:
        return directory / f"{name}.stopping"


class Stopper:
    """Sends the signals, and keeps the kill deadline of each container that was stopped."""

    def __init__(self, client: DockerClient, containers: Containers, directory: Path | None) -> None:
        """With a `directory` deadlines survive this process. Else a restart starts a new grace period."""
        self._client = client
        self._containers = containers
        self._files = DeadlineFiles(directory)
        self._started: dict[str, float] = {}
        self._due: dict[str, float] = {}
        self._timers: dict[str, asyncio.Task[None]] = {}
        self._terminating: dict[str, asyncio.Task[bool]] = {}
        self._signalled: dict[str, str] = {}
        """The start time of the run that got the stop signal."""

    def record_start(self, name: str) -> None:
        """Remember that a container has just started."""
        now = time.monotonic()
        self._started = {other: at for other, at in self._started.items() if now - at < _YOUNG_SECONDS}
        self._started[name] = now

    async def stop(self, name: str, grace_seconds: float) -> None:
        """Send the stop signal once and schedule the kill. A second call can only move the deadline forward.

        A container that was started again since gets the signal again, and the deadline of the first stop.
        Raises RuntimeUnavailable; then no kill is scheduled.
        """
        if not is_container_name(name):
            return
        due = time.time() + grace_seconds
        earlier = self._due.get(name) or self._stored_deadline(name)
        if earlier is not None:
            self._schedule_kill(name, min(due, earlier))
            await self._signal_new_run(name)
        elif await self._terminate(name):
            self._files.write(name, due, self._signalled.get(name, ""))
            self._schedule_kill(name, due)

    async def _signal_new_run(self, name: str) -> None:
        """Send the stop signal to a run that began after the first stop; its kill timer sends the second."""
        run = self._signalled.get(name)
        if run is None:
            return
        await self._terminate(name)
        if self._signalled.get(name, run) != run and name in self._timers:
            self._timers.pop(name).cancel()
            self._schedule_kill(name, self._due[name])

    def forget(self, name: str) -> None:
        """Cancel the kill of a container that has ended."""
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()
        self._due.pop(name, None)
        self._started.pop(name, None)
        self._signalled.pop(name, None)
        self._files.delete(name)

    async def close(self) -> None:
        """Cancel the scheduled kills. Their deadlines stay on disk."""
        tasks = [*self._timers.values(), *self._terminating.values()]
        self._timers.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _stored_deadline(self, name: str) -> float | None:
        """The deadline that an earlier process stored; also takes over which run has the signal."""
        stored = self._files.read(name)
        if stored is None:
            return None
        due, run = stored
        if run:
            self._signalled[name] = run
        return due

    async def _terminate(self, name: str) -> bool:
        """Send the stop signal, once for all concurrent callers and for each run of the container.

        True if the container was running.
        """
        task = self._terminating.get(name)
        if task is None:
            task = asyncio.create_task(self._send_stop_signal(name), name=f"stop {name}")
            self._terminating[name] = task
            task.add_done_callback(lambda done: self._on_terminated(name, done))
        return await asyncio.shield(task)

    def _on_terminated(self, name: str, done: asyncio.Task[bool]) -> None:
        del self._terminating[name]
        if not done.cancelled():
            done.exception()  # retrieve it, even if every caller was cancelled

    def _schedule_kill(self, name: str, due: float) -> None:
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
            self._signalled.pop(name, None)
            await self._until_sent(self._send_stop_signal, name)
        await asyncio.sleep(max(0.0, due - time.time()))
        await self._until_sent(self._kill, name)
        self._timers.pop(name, None)
        self.forget(name)

    async def _until_sent(self, send: Callable[[str], Awaitable[bool]], name: str) -> None:
        """Send a signal. Try again while the engine cannot be reached."""
        while True:
            try:
                await send(name)
            except RuntimeUnavailable:
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                return

    async def _send_stop_signal(self, name: str) -> bool:
        """Send the stop signal unless this run has it. True if the container was running."""
        details = await self._containers.inspect(name)
        state = ObservedState.ABSENT if details is None else observed_state(details["State"]["Status"])
        if details is not None and state is ObservedState.CREATED:
            # Its creator has died, and a container that has never run gets no signal.
            await delete_container(self._client, str(details["Id"]))
        if details is None or state is not ObservedState.RUNNING:
            return False
        started_at = str(details["State"].get("StartedAt"))
        if self._signalled.get(name) == started_at:
            return True
        sent = await send_stop_signal(self._client, details)
        self._signalled[name] = started_at
        if _age(started_at) < _YOUNG_SECONDS:
            self.record_start(name)
        return sent

    async def _kill(self, name: str) -> bool:
        return await send_signal(self._client, name, "SIGKILL")


def _age(started_at: str) -> float:
    """Seconds since a start, by the clock of this machine."""
    return time.time() - datetime.fromisoformat(started_at).timestamp()
