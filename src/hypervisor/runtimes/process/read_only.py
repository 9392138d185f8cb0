"""Reads process workloads from the state directory while another process drives them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from hypervisor.kernel.names import InstanceName
from hypervisor.runtimes.kinds import RuntimeSetup
from hypervisor.runtimes.process.instance_dir import InstanceDir, StateRoot
from hypervisor.runtimes.process.log_files import LogFiles
from hypervisor.runtimes.process.logs import read_output
from hypervisor.runtimes.process.tracked_instance import TrackedInstance
from hypervisor.runtimes.protocol import (
    ABSENT,
    LogChunk,
    Observation,
    ObservedState,
    Runtime,
    RuntimeInfo,
    RuntimeUnavailable,
)
from hypervisor.runtimes.read_only import ReadOnlyRuntime

POLL_SECONDS = 0.25


def open_reader(setup: RuntimeSetup) -> Runtime:
    """See `RuntimeModule`."""
    return ReadOnlyProcessRuntime(setup.data_dir / "process", setup.install)


class ReadOnlyProcessRuntime(ReadOnlyRuntime):
    """Reads the state directory that a `ProcessRuntime` of the same installation writes on a shared disk."""

    def __init__(self, state_dir: Path, install: str) -> None:
        self._state_dir = state_dir
        self._state = StateRoot(state_dir, install)

    @property
    def name(self) -> str:
        return "process"

    async def probe(self) -> RuntimeInfo:
        return RuntimeInfo(self.name, "processes on the machine of a scheduler, without isolation")

    async def observe(self, instances: Collection[str]) -> Mapping[str, Observation]:
        with self._reading():
            return {name: self._observe(name) for name in instances}

    async def list_instances(self) -> Mapping[str, Observation]:
        with self._reading():
            return {name: self._observe(name) for name in self._state.instance_names()}

    async def logs(
        self, instance: str, *, tail: int | None = None, after: str | None = None, follow: bool = False
    ) -> AsyncIterator[LogChunk]:
        """As in the protocol, if the driving process uses the same data directory."""
        if InstanceName.parse(instance) is None:
            return
        self._check_state_dir()
        directory = self._state.instance_dir(instance)
        log = LogFiles(directory.path, self._state.archived_logs(instance))
        finished = asyncio.Event()
        watcher = asyncio.create_task(_watch_for_end(directory, finished))
        try:
            async for chunk in read_output(log, tail=tail, after=after, follow=follow, finished=finished):
                yield chunk
        finally:
            watcher.cancel()
            await asyncio.gather(watcher, return_exceptions=True)

    def _observe(self, name: str) -> Observation:
        """RUNNING until the driving process has recorded the end."""
        directory = self._state.instance_dir(name)
        if not directory.path.is_dir():
            return ABSENT
        log = LogFiles(directory.path, self._state.archived_logs(name))
        tracked = TrackedInstance(name, directory, log, directory.launch())
        state = directory.state()
        if state is None or tracked.launch is None:
            return Observation(ObservedState.CREATED)
        if state.finished_at is not None:
            return tracked.exit_observation(state, state.finished_at)
        tracked.identity = state.identity
        return tracked.observe()

    def _check_state_dir(self) -> None:
        if not self._state_dir.is_dir():
            raise RuntimeUnavailable(f"no scheduler process uses the data directory {self._state_dir.parent}")

    @contextmanager
    def _reading(self) -> Iterator[None]:
        self._check_state_dir()
        try:
            yield
        except OSError as error:
            raise RuntimeUnavailable(
                f"cannot read the state directory of the process runtime: {error}"
            ) from error


async def _watch_for_end(directory: InstanceDir, finished: asyncio.Event) -> None:
    """Set `finished` when the driving process has recorded the end, or when there is no such instance."""
    while directory.path.is_dir():
        try:
            state = directory.state()
        except OSError:
            state = None
        if state is not None and state.finished_at is not None:
            break
        await asyncio.sleep(POLL_SECONDS)
    finished.set()
