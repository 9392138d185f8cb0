"""The face of the process runtime: the contract's calls, in terms of `Instances` and the state folder."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from pathlib import Path

from hypervisor.kernel.clock import Clock
from hypervisor.kernel.failpoints import reached
from hypervisor.kernel.names import InstanceName
from hypervisor.runtimes.hints import ChangeHints
from hypervisor.runtimes.process import ports, shim
from hypervisor.runtimes.process.instance_dir import Launch, StateRoot
from hypervisor.runtimes.process.instances import Instances
from hypervisor.runtimes.process.logs import LogLimits, RotatingLog, read_lines
from hypervisor.runtimes.process.proc import read_stat
from hypervisor.runtimes.process.tracked import Tracked
from hypervisor.runtimes.protocol import (
    ABSENT,
    LaunchFailed,
    LaunchSpec,
    Observation,
    ObservedState,
    RuntimeInfo,
    RuntimeUnavailable,
)

DEFAULT_LIMITS = LogLimits()
HOUSEKEEPING_INTERVAL = 1.0


class ProcessRuntime:
    """Implements `hypervisor.runtimes.protocol.Runtime` on this machine's processes.

    `state_dir` belongs to this runtime alone and to one server at a time. `log_limits` bounds each instance's
    output on disk; every `housekeeping_interval` seconds what has grown over it is rotated.
    """

    name = "process"

    def __init__(
        self,
        state_dir: Path,
        install: str,
        clock: Clock,
        *,
        log_limits: LogLimits = DEFAULT_LIMITS,
        housekeeping_interval: float = HOUSEKEEPING_INTERVAL,
    ) -> None:
        self._clock = clock
        self._limits = log_limits
        self._interval = housekeeping_interval
        self._state = StateRoot(state_dir, install)
        self._hints = ChangeHints()
        self._instances = Instances(self._state, self._hints, clock, log_limits)
        self._housekeeper: asyncio.Task[None] | None = None
        self._has_trash = True

    async def probe(self) -> RuntimeInfo:
        if not hasattr(os, "pidfd_open") or read_stat(os.getpid()) is None:
            raise RuntimeUnavailable("the process runtime needs Linux with /proc and pidfd")
        with self._engine():
            return RuntimeInfo(
                self.name,
                "processes of this machine, without isolation: for trusted use",
                cpu_milli=1000 * len(os.sched_getaffinity(0)),
                ram_mib=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20,
                details={"supervisor": shim.SHELL},
            )

    async def start(self, spec: LaunchSpec) -> Observation:
        with self._engine():
            tracked = self._instances.find(spec.instance)
            if tracked is None or tracked.look().state is ObservedState.CREATED:
                tracked = self._launch(spec)
            return tracked.look()

    async def observe(self, instances: Collection[str]) -> Mapping[str, Observation]:
        with self._engine():
            return {name: self._look(name) for name in instances}

    async def stop(self, instance: str, grace_seconds: float) -> None:
        """As the contract says; a second stop with less grace brings the kill forward."""
        with self._engine():
            tracked = self._instances.find(instance)
            if tracked is not None and tracked.final is None:
                self._instances.stop(tracked, max(0.0, grace_seconds))

    async def remove(self, instance: str) -> None:
        with self._engine():
            tracked = self._instances.find(instance)
            if tracked is None or not self._may_go(tracked):
                return
            self._state.keep_logs(tracked.folder)
            tracked.log.move(self._state.kept_logs(instance))
            self._instances.forget(tracked)
            self._has_trash = True

    async def list_instances(self) -> Mapping[str, Observation]:
        with self._engine():
            seen = {name: self._look(name) for name in self._state.names()}
            return {name: look for name, look in seen.items() if look.state is not ObservedState.ABSENT}

    async def logs(
        self, instance: str, *, tail: int | None = None, follow: bool = False
    ) -> AsyncIterator[str]:
        if InstanceName.parse(instance) is None:
            return
        with self._engine():
            tracked = self._instances.find(instance)
            log, over = (tracked.log, tracked.over) if tracked else (self._kept_log(instance), _set_event())
        async for line in read_lines(log, tail=tail, follow=follow, ended=over):
            yield line

    async def purge_logs(self, instance: str) -> None:
        """Logs of an instance that is not removed yet stay."""
        if InstanceName.parse(instance) is None:
            return
        with self._engine():
            self._discard(self._state.kept_logs(instance))

    def changes(self) -> AsyncIterator[str]:
        with self._engine():
            return self._hints.subscribe()

    async def close(self) -> None:
        if self._housekeeper is not None:
            self._housekeeper.cancel()
            await asyncio.gather(self._housekeeper, return_exceptions=True)
        await self._instances.close()
        self._hints.close()

    @contextlib.contextmanager
    def _engine(self) -> Iterator[None]:
        """Adopt what is there on first use, and say in the contract's words that the disk does not answer."""
        try:
            if self._housekeeper is None:
                self._state.create()
                shim.handle_ignored_signals()
                self._housekeeper = asyncio.create_task(self._keep_house())
                self._instances.adopt_all()
            yield
        except OSError as error:
            raise RuntimeUnavailable(f"the state folder of the process runtime: {error}") from error

    def _look(self, name: str) -> Observation:
        tracked = self._instances.find(name)
        return ABSENT if tracked is None else tracked.look()

    def _launch(self, spec: LaunchSpec) -> Tracked:
        folder = self._state.folder(spec.instance)
        given = {port for one in self._instances.live() if one.launch for port in one.launch.ports.values()}
        launch = Launch(self._clock.now(), ports.choose(spec.ports, given))
        shim.check(spec, shim.environment(spec, launch.ports))
        launch = folder.prepare(launch)
        reached("runtime_after_create_before_ack")
        env = shim.environment(spec, launch.ports)
        try:
            pid = shim.spawn(spec, env, folder.path)
        except LaunchFailed:
            if folder.claim_void():
                self._discard(folder.path)
            raise
        return self._instances.track(spec.instance, folder, launch, pid)

    def _may_go(self, tracked: Tracked) -> bool:
        """Whether it has ended, or never began and from now on never can."""
        if tracked.final is not None:
            return True
        return tracked.look().state is ObservedState.CREATED and tracked.folder.claim_void()

    def _discard(self, path: Path) -> None:
        """Many go at the same time; the housekeeping deletes them in one turn."""
        self._state.discard(path)
        self._has_trash = True

    def _kept_log(self, instance: str) -> RotatingLog:
        return RotatingLog(self._state.kept_logs(instance), self._limits)

    async def _keep_house(self) -> None:
        while True:
            if self._has_trash:
                await self._empty_trash()
            await asyncio.sleep(self._interval)
            for tracked in self._instances.live():
                # A full disk or table of files must not end the housekeeping: the next round tries again.
                with contextlib.suppress(OSError):
                    self._instances.look_after(tracked)
                    if tracked.log.is_too_large():
                        await asyncio.to_thread(tracked.log.rotate)

    async def _empty_trash(self) -> None:
        self._has_trash = False
        try:
            await asyncio.to_thread(self._state.empty_trash)
        except OSError:
            self._has_trash = True


def _set_event() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event
