"""The instances that this process tracks: adopts them, watches their supervisors and concludes them."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Collection
from dataclasses import replace

from hypervisor.kernel.clock import Clock
from hypervisor.kernel.names import InstanceName
from hypervisor.runtimes.change_hints import ChangeHints
from hypervisor.runtimes.process.instance_dir import InstanceDir, InstanceState, LaunchRecord, StateRoot
from hypervisor.runtimes.process.logs import LogLimits, RotatingLog
from hypervisor.runtimes.process.procfs import ProcessIdentity, reap, reap_pid, reap_when_ended
from hypervisor.runtimes.process.procfs_scanner import ProcessScanner
from hypervisor.runtimes.process.reaper import Reaper
from hypervisor.runtimes.process.stop import Stopper
from hypervisor.runtimes.process.tracked_instance import KILLED, TERMINATED, TrackedInstance
from hypervisor.runtimes.protocol import Observation


class InstanceTracker:
    """The memory in front of the state directory. Synchronous, so that two tasks never interleave."""

    def __init__(self, state: StateRoot, hints: ChangeHints, clock: Clock, limits: LogLimits) -> None:
        self._state = state
        self._hints = hints
        self._limits = limits
        self._tracked: dict[str, TrackedInstance] = {}
        scanner = ProcessScanner(self._live_sessions)
        self._stopper = Stopper(clock, scanner)
        self._reaper = Reaper(self._conclude, scanner, clock)

    def adopt_all(self) -> None:
        """Track every instance in the state directory."""
        for name in self._state.instance_names():
            self.find(name)

    def find(self, name: str) -> TrackedInstance | None:
        """Return the instance from memory or from disk. None if there is no such instance."""
        tracked = self._tracked.get(name) or self._adopt(name)
        if tracked is None:
            return None
        if tracked.final is not None and not tracked.directory.path.is_dir():
            self.forget(tracked)
            return None
        if tracked.final is None and tracked.identity is None:
            self._load_claim(tracked)
        return tracked

    def live(self) -> Collection[TrackedInstance]:
        """The instances that have not finished."""
        return [tracked for tracked in self._tracked.values() if tracked.final is None]

    def add(self, name: str, directory: InstanceDir, launch: LaunchRecord, pid: int) -> TrackedInstance:
        """Track an instance whose supervisor was just spawned as `pid`.

        The child is not reaped before its pidfd is open, so the pid cannot belong to another process.
        """
        tracked = TrackedInstance(
            name, directory, RotatingLog(directory.path, self._limits), launch, ProcessIdentity.of(pid)
        )
        self._tracked[name] = tracked
        with contextlib.suppress(OSError):  # no file descriptor is left: see `poll`
            self._watch_pidfd(tracked, os.pidfd_open(pid))
        self._hints.publish(name)
        return tracked

    def stop(self, tracked: TrackedInstance, grace: float) -> None:
        """Write the stop order, then carry it out.

        A supervisor reads the order after its fork, see `supervisor.SCRIPT`.
        """
        if tracked.supervisor_ended.is_set() or not self._stopper.record(tracked, grace):
            return
        if _claim_void(tracked.directory):
            tracked.directory.record_exit(TERMINATED)
        state = tracked.directory.state()
        if state is not None and state.identity is not None:
            self._stopper.carry_out(tracked, state.identity)
        elif tracked.identity is None:
            self._load_claim(tracked)

    def forget(self, tracked: TrackedInstance) -> None:
        """Stop tracking an instance."""
        self._tracked.pop(tracked.name, None)
        self._release(tracked)
        self._hints.publish(tracked.name)

    def poll(self, tracked: TrackedInstance) -> None:
        """Detect what no pidfd reports.

        That is the claim of an adopted instance, and the end of a supervisor that has no pidfd.
        """
        identity = tracked.identity
        if identity is None:
            self._load_claim(tracked)
            if tracked.identity is not None:
                self._hints.publish(tracked.name)
            return
        if tracked.pidfd is not None or tracked.supervisor_ended.is_set():
            return
        if not self._watch(tracked, identity):
            reap_pid(identity.pid)
            self._on_supervisor_end(tracked)

    async def close(self) -> None:
        """Stop watching. The instances keep running."""
        await self._stopper.close()
        await self._reaper.close()
        for tracked in self._tracked.values():
            if tracked.pidfd is not None:
                reap_when_ended(asyncio.get_running_loop(), tracked.pidfd)
            self._release(tracked)
        self._tracked.clear()

    def _adopt(self, name: str) -> TrackedInstance | None:
        if InstanceName.parse(name) is None:
            return None
        directory = self._state.instance_dir(name)
        if not directory.path.is_dir():
            return None
        log = RotatingLog(directory.path, self._limits)
        tracked = TrackedInstance(name, directory, log, directory.launch(), stop_order=directory.stop_order())
        self._tracked[name] = tracked
        return tracked

    def _load_claim(self, tracked: TrackedInstance) -> None:
        """Read the claim, if there is one, and act on it. Without one `poll` reads again."""
        state = tracked.directory.state()
        if state is None:
            return
        tracked.identity = state.identity
        if state.finished_at is not None:
            self._finish(tracked, tracked.exit_observation(state, state.finished_at))
        elif state.identity is None:
            self._conclude(tracked)
        elif state.exit_code is not None or not self._watch(tracked, state.identity):
            tracked.supervisor_ended.set()
            self._reaper.add(tracked)
        else:
            self._stopper.carry_out(tracked, state.identity)

    def _watch(self, tracked: TrackedInstance, identity: ProcessIdentity) -> bool:
        """Watch for the supervisor's end. False if it has ended."""
        try:
            pidfd = identity.open_pidfd(tracked.name)
        except OSError:
            return identity.is_alive(tracked.name)
        if pidfd is not None:
            self._watch_pidfd(tracked, pidfd)
        return pidfd is not None

    def _watch_pidfd(self, tracked: TrackedInstance, pidfd: int) -> None:
        tracked.pidfd = pidfd
        asyncio.get_running_loop().add_reader(pidfd, self._on_supervisor_end, tracked)

    def _on_supervisor_end(self, tracked: TrackedInstance) -> None:
        if tracked.pidfd is not None:
            reap(tracked.pidfd)
        self._unwatch(tracked)
        # A supervisor that was killed before its claim must not be followed by another one.
        _claim_void(tracked.directory)
        state = tracked.directory.state()
        if state is None:
            self.forget(tracked)
        elif state.identity != tracked.identity:
            # Another supervisor, or a stop, claimed the instance first, and this supervisor gave up.
            self._load_claim(tracked)
        else:
            tracked.supervisor_ended.set()
            self._reaper.add(tracked)

    def _conclude(self, tracked: TrackedInstance) -> None:
        """Record the end: no process of the instance is left."""
        state = tracked.directory.state()
        if state is None:
            self.forget(tracked)
            return
        if state.exit_code is None and tracked.stop_order is not None and tracked.stop_order.killed:
            state = self._record_kill(tracked, state)
        finished_at = tracked.directory.changed_at()
        with contextlib.suppress(OSError):
            tracked.directory.record_finished(finished_at)
        self._finish(tracked, tracked.exit_observation(state, finished_at))

    def _record_kill(self, tracked: TrackedInstance, state: InstanceState) -> InstanceState:
        with contextlib.suppress(OSError):
            tracked.directory.record_exit(KILLED)
        return replace(state, exit_code=KILLED)

    def _finish(self, tracked: TrackedInstance, final: Observation) -> None:
        tracked.final = final
        self._release(tracked)
        self._hints.publish(tracked.name)

    def _release(self, tracked: TrackedInstance) -> None:
        self._unwatch(tracked)
        if tracked.kill_timer is not None:
            tracked.kill_timer.cancel()
            tracked.kill_timer = None
        tracked.finished.set()

    def _unwatch(self, tracked: TrackedInstance) -> None:
        if tracked.pidfd is not None:
            asyncio.get_running_loop().remove_reader(tracked.pidfd)
            os.close(tracked.pidfd)
            tracked.pidfd = None

    def _live_sessions(self) -> frozenset[int]:
        live = (
            tracked.identity for tracked in self._tracked.values() if not tracked.supervisor_ended.is_set()
        )
        return frozenset(identity.pid for identity in live if identity is not None)


def _claim_void(directory: InstanceDir) -> bool:
    try:
        return directory.claim_void()
    except OSError:
        return False
