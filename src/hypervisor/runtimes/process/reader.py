"""What can be read of process workloads from the state folder alone, while another process drives them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from hypervisor.kernel.names import InstanceName
from hypervisor.runtimes.process.instance_dir import InstanceDir, StateRoot
from hypervisor.runtimes.process.logs import LogLimits, RotatingLog, read_lines
from hypervisor.runtimes.process.tracked import Tracked
from hypervisor.runtimes.protocol import (
    ABSENT,
    Observation,
    ObservedState,
    RuntimeInfo,
    RuntimeUnavailable,
)
from hypervisor.runtimes.read_only import ReadOnlyRuntime

POLL_SECONDS = 0.25


class ProcessReader(ReadOnlyRuntime):
    """Reads the state folder that a `ProcessRuntime` of the same installation writes, on a shared disk."""

    def __init__(self, state_dir: Path, install: str, log_limits: LogLimits | None = None) -> None:
        self._root = state_dir
        self._state = StateRoot(state_dir, install)
        self._limits = log_limits or LogLimits()

    @property
    def name(self) -> str:
        return "process"

    async def probe(self) -> RuntimeInfo:
        return RuntimeInfo(self.name, "processes on the machine of a scheduler, without isolation")

    async def observe(self, instances: Collection[str]) -> Mapping[str, Observation]:
        with self._folder_there():
            return {name: self._look(name) for name in instances}

    async def list_instances(self) -> Mapping[str, Observation]:
        with self._folder_there():
            return {name: self._look(name) for name in self._state.names()}

    async def logs(
        self, instance: str, *, tail: int | None = None, follow: bool = False
    ) -> AsyncIterator[str]:
        """As the contract says, as long as the driver's data folder is this one."""
        if InstanceName.parse(instance) is None:
            return
        self._check_folder()
        folder = self._state.folder(instance)
        log = ForeignLog(folder.path, self._state.kept_logs(instance), self._limits)
        ended = asyncio.Event()
        watcher = asyncio.create_task(_tell_end(folder, ended))
        try:
            async for line in read_lines(log, tail=tail, follow=follow, ended=ended):
                yield line
        finally:
            watcher.cancel()
            await asyncio.gather(watcher, return_exceptions=True)

    def _look(self, name: str) -> Observation:
        """RUNNING until the driver has written down that nothing is left."""
        folder = self._state.folder(name)
        if not folder.path.is_dir():
            return ABSENT
        tracked = Tracked(name, folder, RotatingLog(folder.path, self._limits), folder.launch())
        state = folder.state()
        if state is None or tracked.launch is None:
            return Observation(ObservedState.CREATED)
        if state.swept_at is not None:
            return tracked.ended(state, state.swept_at)
        tracked.identity = state.identity
        return tracked.look()

    def _check_folder(self) -> None:
        if not self._root.is_dir():
            raise RuntimeUnavailable(f"no scheduler works with the data folder {self._root.parent}")

    @contextmanager
    def _folder_there(self) -> Iterator[None]:
        self._check_folder()
        try:
            yield
        except OSError as error:
            raise RuntimeUnavailable(f"the state folder of the process runtime: {error}") from error


class ForeignLog(RotatingLog):
    """A log that another process rotates, and moves when its instance is removed."""

    def __init__(self, folder: Path, kept: Path, limits: LogLimits) -> None:
        super().__init__(folder, limits)
        self._kept = kept
        self._newest = _inode(self._path(1))

    def _segments(self) -> list[tuple[int, Path]]:
        if not self._folder.is_dir():
            self._folder = self._kept
        newest = _inode(self._path(1))
        if newest != self._newest:
            # Each rotation makes a new `log.1` of what the current file held until then.
            self._newest = newest
            self._rotated_out += self._path(1).stat().st_size if newest is not None else 0
        return super()._segments()


async def _tell_end(folder: InstanceDir, ended: asyncio.Event) -> None:
    """Set `ended` once the driver has seen the last of the instance, or there is no such instance."""
    while folder.path.is_dir():
        try:
            state = folder.state()
        except OSError:
            state = None
        if state is not None and state.swept_at is not None:
            break
        await asyncio.sleep(POLL_SECONDS)
    ended.set()


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        return None
