"""Implements the protocol with an `InstanceTracker` and the state directory."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from pathlib import Path

from hypervisor.kernel.clock import Clock
from hypervisor.kernel.failpoints import reached
from hypervisor.kernel.names import InstanceName
from hypervisor.runtimes.change_hints import ChangeHints
from hypervisor.runtimes.kinds import RuntimeSetup
from hypervisor.runtimes.process import cgroups, ports, supervisor
from hypervisor.runtimes.process.cgroups import Cgroup
from hypervisor.runtimes.process.environment import environment
from hypervisor.runtimes.process.instance_dir import LaunchRecord, StateRoot
from hypervisor.runtimes.process.instance_tracker import InstanceTracker
from hypervisor.runtimes.process.log_files import LogFiles, LogLimits
from hypervisor.runtimes.process.logs import read_output
from hypervisor.runtimes.process.owned_files import SHORTAGES, unlock
from hypervisor.runtimes.process.procfs import ProcessIdentity, read_stat
from hypervisor.runtimes.process.spawner import DirectSpawner, Spawner, SubreaperSpawner
from hypervisor.runtimes.process.supervisor import Placement
from hypervisor.runtimes.process.tracked_instance import TrackedInstance
from hypervisor.runtimes.protocol import (
    ABSENT,
    LaunchFailed,
    LaunchSpec,
    LogChunk,
    Observation,
    ObservedState,
    Runtime,
    RuntimeInfo,
    RuntimeUnavailable,
)

_log = logging.getLogger(__name__)

DEFAULT_LIMITS = LogLimits()
HOUSEKEEPING_INTERVAL = 1.0


def open_runtime(setup: RuntimeSetup, _endpoint: str | None) -> Runtime:
    """See `RuntimeModule`."""
    return ProcessRuntime(setup.data_dir / "process", setup.install, setup.clock)


class ProcessRuntime:
    """Implements `hypervisor.runtimes.protocol.Runtime` with processes of this machine.

    Only this runtime may use `state_dir`, and only one server at a time. `log_limits` bounds the output of
    each instance on disk. Without `use_cgroups` the runtime behaves as if it could not create control groups.
    """

    name = "process"
    ends_are_final = True
    """A claim is never released, so a supervisor that starts late exits before it runs anything."""

    def __init__(
        self,
        state_dir: Path,
        install: str,
        clock: Clock,
        *,
        log_limits: LogLimits = DEFAULT_LIMITS,
        housekeeping_interval: float = HOUSEKEEPING_INTERVAL,
        use_cgroups: bool = True,
    ) -> None:
        self._clock = clock
        self._limits = log_limits
        self._interval = housekeeping_interval
        self._install = install
        self._state = StateRoot(state_dir, install)
        self._hints = ChangeHints()
        self._instances = InstanceTracker(self._state, self._hints, clock)
        self._use_cgroups = use_cgroups
        self._cgroup_parent: Path | None = None
        self._spawner: Spawner = SubreaperSpawner()
        self._housekeeper: asyncio.Task[None] | None = None
        self._has_trash = True

    async def probe(self) -> RuntimeInfo:
        if not hasattr(os, "pidfd_open") or read_stat(os.getpid()) is None:
            raise RuntimeUnavailable("the process runtime needs Linux with /proc and pidfd")
        with self._opened():
            return RuntimeInfo(
                self.name,
                "processes of this machine, without isolation: for trusted users only",
                cpu_milli=1000 * len(os.sched_getaffinity(0)),
                ram_mib=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20,
                details={
                    "supervisor": supervisor.SHELL,
                    "containment": cgroups.containment(self._cgroup_parent),
                },
            )

    async def start(self, spec: LaunchSpec) -> Observation:
        with self._opened():
            tracked = self._instances.find(spec.instance)
            if tracked is None or tracked.observe().state is ObservedState.CREATED:
                tracked = self._launch(spec)
            return tracked.observe()

    async def observe(self, instances: Collection[str]) -> Mapping[str, Observation]:
        with self._opened():
            return {name: self._observe(name) for name in instances}

    async def stop(self, instance: str, grace_seconds: float) -> None:
        """As in the protocol. A second stop with less grace moves the kill forward."""
        with self._opened():
            tracked = self._instances.find(instance)
            if tracked is not None and tracked.final is None:
                self._instances.stop(tracked, max(0.0, grace_seconds))

    async def remove(self, instance: str) -> bool:
        with self._opened():
            tracked = self._instances.find(instance)
            if tracked is None:
                return True
            if not self._is_removable(tracked) or not self._archive(tracked):
                return False
            if tracked.cgroup is not None:
                tracked.cgroup.remove()
            self._instances.forget(tracked)
            self._has_trash = True
            return True

    async def list_instances(self) -> Mapping[str, Observation]:
        with self._opened():
            observations = {name: self._observe(name) for name in self._state.instance_names()}
            return {
                name: observation
                for name, observation in observations.items()
                if observation.state is not ObservedState.ABSENT
            }

    async def logs(
        self, instance: str, *, tail: int | None = None, after: str | None = None, follow: bool = False
    ) -> AsyncIterator[LogChunk]:
        if InstanceName.parse(instance) is None:
            return
        with self._opened():
            tracked = self._instances.find(instance)
            if tracked is not None:
                unlock(tracked.directory.path)
                log, finished = tracked.log, tracked.finished
            else:
                log, finished = self._archived_log(instance), _set_event()
        async for chunk in read_output(log, tail=tail, after=after, follow=follow, finished=finished):
            yield chunk

    async def purge_logs(self, instance: str) -> None:
        """Delete the archived logs. The logs of an instance that was not removed stay."""
        if InstanceName.parse(instance) is None:
            return
        with self._opened():
            self._discard(self._state.archived_logs(instance))

    def changes(self) -> AsyncIterator[str]:
        with self._opened():
            return self._hints.subscribe()

    async def close(self) -> None:
        if self._housekeeper is not None:
            self._housekeeper.cancel()
            await asyncio.gather(self._housekeeper, return_exceptions=True)
        await self._instances.close()
        self._spawner.close()
        self._hints.close()

    @contextlib.contextmanager
    def _opened(self) -> Iterator[None]:
        """Adopt the existing instances on first use. An error of the disk raises RuntimeUnavailable."""
        try:
            if self._housekeeper is None:
                self._state.create()
                supervisor.handle_ignored_signals()
                self._choose_containment()
                self._housekeeper = asyncio.create_task(self._run_housekeeping())
                self._instances.adopt_all()
            yield
        except OSError as error:
            raise RuntimeUnavailable(
                f"cannot use the state directory of the process runtime: {error}"
            ) from error

    def _observe(self, name: str) -> Observation:
        """One instance. What is wrong with it alone must not hide the others."""
        try:
            tracked = self._instances.find(name)
            return ABSENT if tracked is None else tracked.observe()
        except Exception as error:
            if isinstance(error, OSError) and error.errno in SHORTAGES:
                raise
            _log.exception("cannot read the instance %s", name)
            return Observation(ObservedState.RUNNING, message=f"its state cannot be read: {error}")

    def _choose_containment(self) -> None:
        """Use control groups if this process may create them, else child subreapers."""
        self._cgroup_parent = cgroups.writable_parent() if self._use_cgroups else None
        if self._cgroup_parent is not None:
            self._spawner = DirectSpawner()
            cgroups.remove_empty(self._cgroup_parent, self._install)

    def _launch(self, spec: LaunchSpec) -> TrackedInstance:
        directory = self._state.instance_dir(spec.instance)
        taken = {port for one in self._instances.live() if one.launch for port in one.launch.ports.values()}
        cgroup = self._cgroup_parent / spec.instance if self._cgroup_parent else None
        launch = LaunchRecord(self._clock.now(), ports.choose(spec.ports, taken), cgroup)
        supervisor.check(spec, environment(spec, launch.ports))
        launch = directory.prepare(launch)
        reached("runtime_after_create_before_ack")
        try:
            identity = self._spawn(spec, launch, directory.path)
        except LaunchFailed:
            if directory.claim_void():
                self._discard(directory.path)
            raise
        return self._instances.add(directory, launch, identity)

    def _spawn(self, spec: LaunchSpec, launch: LaunchRecord, directory: Path) -> ProcessIdentity | None:
        """Start the supervisor with a control group, if the launch has one. Raises LaunchFailed."""
        placement = Placement(directory, launch.cgroup, self._limits)
        if launch.cgroup is None:
            return supervisor.spawn(self._spawner, spec, environment(spec, launch.ports), placement)
        cgroup = Cgroup(launch.cgroup)
        with contextlib.suppress(OSError):  # made by a server of another group: the supervisor tries to enter
            cgroup.create()
        try:
            return supervisor.spawn(self._spawner, spec, environment(spec, launch.ports), placement)
        except LaunchFailed:
            cgroup.remove()
            raise

    def _is_removable(self, tracked: TrackedInstance) -> bool:
        """Whether the instance has finished, or never started and from now on never can."""
        if tracked.final is not None:
            return True
        return tracked.observe().state is ObservedState.CREATED and tracked.directory.claim_void()

    def _archive(self, tracked: TrackedInstance) -> bool:
        """Move the files away. False if they cannot be moved now, which a workload can bring about."""
        try:
            self._state.archive_logs(tracked.directory)
        except OSError as error:
            if error.errno in SHORTAGES:
                raise
            _log.warning("cannot remove the instance %s: %s", tracked.name, error)
            return False
        return True

    def _discard(self, path: Path) -> None:
        """Move a directory to the trash, which the housekeeping empties."""
        self._state.discard(path)
        self._has_trash = True

    def _archived_log(self, name: str) -> LogFiles:
        archive = self._state.archived_logs(name)
        return LogFiles(archive, archive)

    async def _run_housekeeping(self) -> None:
        while True:
            if self._has_trash:
                await self._empty_trash()
            await asyncio.sleep(self._interval)
            for tracked in self._instances.live():
                await self._keep_house(tracked)

    async def _keep_house(self, tracked: TrackedInstance) -> None:
        """Nothing that is wrong with one instance may end the housekeeping: it tries again."""
        try:
            self._instances.poll(tracked)
            if tracked.log.is_legacy_too_large(self._limits):
                await asyncio.to_thread(tracked.log.bound_legacy_log, self._limits)
        except OSError as error:
            _log.debug("cannot look after the instance %s: %s", tracked.name, error)
        except Exception:
            _log.exception("cannot look after the instance %s", tracked.name)

    async def _empty_trash(self) -> None:
        self._has_trash = False
        try:
            await asyncio.to_thread(self._state.empty_trash)
        except OSError:
            self._has_trash = True
        except Exception:
            _log.exception("cannot empty the trash")


def _set_event() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event
