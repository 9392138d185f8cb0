"""The instances that this process tracks: adopts them, watches their supervisors and concludes them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Collection
from dataclasses import replace

from hypervisor.kernel.clock import Clock
from hypervisor.kernel.names import InstanceName
from hypervisor.runtimes.change_hints import ChangeHints
from hypervisor.runtimes.process.instance_dir import InstanceDir, LaunchRecord, StateRoot
from hypervisor.runtimes.process.instance_state import InstanceState, sane_time
from hypervisor.runtimes.process.log_files import LogFiles
from hypervisor.runtimes.process.procfs import (
    ProcessIdentity,
    find_supervisor,
    no_process,
    reap,
    reap_pid,
    reap_when_ended,
)
from hypervisor.runtimes.process.procfs_scanner import ProcessScanner
from hypervisor.runtimes.process.reaper import Reaper
from hypervisor.runtimes.process.stop import Stopper
from hypervisor.runtimes.process.tracked_instance import KILLED, TERMINATED, TrackedInstance
from hypervisor.runtimes.protocol import Observation

_log = logging.getLogger(__name__)


class InstanceTracker:
    """The memory in front of the state directory. Synchronous, so that two tasks never interleave."""

    def __init__(self, state: StateRoot, hints: ChangeHints, clock: Clock) -> None:
        self._state = state
        self._hints = hints
        self._clock = clock
        self._tracked: dict[str, TrackedInstance] = {}
        scanner = ProcessScanner(self._live_sessions)
        self._stopper = Stopper(clock, scanner)
        self._reaper = Reaper(self._conclude, scanner, clock)

    def adopt_all(self) -> None:
        """Track every instance in the state directory."""
        for name in self._state.instance_names():
            try:
                self.find(name)
            except OSError:  # a shortage: `find` or `poll` tries again
                _log.warning("cannot adopt the instance %s now", name, exc_info=True)
            except Exception:
                _log.exception("cannot adopt the instance %s", name)

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

    def add(
        self, directory: InstanceDir, launch: LaunchRecord, supervisor: ProcessIdentity | None
    ) -> TrackedInstance:
        """Track an instance whose supervisor was just spawned; None if that has ended already."""
        tracked = self._track(directory, launch)
        tracked.identity = supervisor
        if supervisor is None or not self._watch(tracked, supervisor):
            self._on_supervisor_end(tracked)
        self._hints.publish(tracked.name)
        return tracked

    def stop(self, tracked: TrackedInstance, grace: float) -> None:
        """Write the stop order, then carry it out.

        A supervisor reads the order after its fork, see `supervisor.SCRIPT`.
        """
        if tracked.supervisor_ended.is_set() or not self._stopper.record(tracked, grace):
            return
        if _claim_void(tracked.directory):
            tracked.directory.record_exit(TERMINATED)
        supervisor = _claimant(tracked)
        if supervisor is not None:
            self._stopper.carry_out(tracked, supervisor)
        elif tracked.identity is None:
            self._load_claim(tracked)

    def forget(self, tracked: TrackedInstance) -> None:
        """Stop tracking an instance."""
        self._tracked.pop(tracked.name, None)
        self._release(tracked)
        self._hints.publish(tracked.name)

    def poll(self, tracked: TrackedInstance) -> None:
        """Detect what no pidfd reports.

        That is the claim of an adopted instance, the end of a supervisor that has no pidfd, and the end of a
        workload whose supervisor cannot end.
        """
        identity = tracked.identity
        if identity is None:
            self._load_claim(tracked)
            if tracked.identity is not None:
                self._hints.publish(tracked.name)
        elif tracked.supervisor_ended.is_set():
            return
        elif tracked.pidfd is None and not self._watch(tracked, identity):
            self._on_supervisor_end(tracked)
        elif tracked.has_exit_code():
            self._reaper.add(tracked)
        else:
            identity.resume()

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
        tracked = self._track(directory, directory.launch())
        tracked.stop_order = directory.stop_order()
        return tracked

    def _track(self, directory: InstanceDir, launch: LaunchRecord | None) -> TrackedInstance:
        name = directory.path.name
        log = LogFiles(directory.path, self._state.archived_logs(name))
        tracked = self._tracked[name] = TrackedInstance(name, directory, log, launch)
        return tracked

    def _load_claim(self, tracked: TrackedInstance) -> None:
        """Read the claim, if there is one, and act on it. Without one `poll` reads again."""
        state = tracked.directory.state()
        if state is None:
            return
        if state.is_damaged and state.identity is None:
            self._find_supervisor(tracked)
            return
        tracked.identity = state.identity
        if state.finished_at is not None:
            self._finish(tracked, tracked.exit_observation(state, state.finished_at))
        elif state.identity is None:
            self._conclude(tracked)
        elif not (state.identity.is_alive(tracked.name) and self._watch(tracked, state.identity)):
            tracked.supervisor_ended.set()
            self._reaper.add(tracked)
        else:
            self._stopper.carry_out(tracked, state.identity)

    def _find_supervisor(self, tracked: TrackedInstance) -> None:
        """Go on without a readable claim: the instance has ended when no process of it is left."""
        found = find_supervisor(tracked.name)
        tracked.identity = found or no_process()
        if found is not None and self._watch(tracked, found):
            self._stopper.carry_out(tracked, found)
        else:
            tracked.supervisor_ended.set()
            self._reaper.add(tracked)

    def _watch(self, tracked: TrackedInstance, identity: ProcessIdentity) -> bool:
        """Watch for the supervisor's end. False if it has ended."""
        try:
            pidfd = identity.open_pidfd()
        except OSError:
            return identity.lives()
        if pidfd is not None:
            self._watch_pidfd(tracked, pidfd)
        return pidfd is not None

    def _watch_pidfd(self, tracked: TrackedInstance, pidfd: int) -> None:
        tracked.pidfd = pidfd
        asyncio.get_running_loop().add_reader(pidfd, self._on_supervisor_end, tracked)

    def _on_supervisor_end(self, tracked: TrackedInstance) -> None:
        if tracked.pidfd is not None:
            reap(tracked.pidfd)
        elif tracked.identity is not None:
            reap_pid(tracked.identity.pid)
        self._unwatch(tracked)
        # A supervisor that was killed before its claim must not be followed by another one.
        _claim_void(tracked.directory)
        state = tracked.directory.state()
        if state is None:
            self.forget(tracked)
        elif state.identity != tracked.identity and not state.is_damaged:
            # Another supervisor, or a stop, claimed the instance first, and this supervisor gave up.
            self._load_claim(tracked)
        else:
            tracked.supervisor_ended.set()
            self._reaper.add(tracked)

    def _conclude(self, tracked: TrackedInstance) -> None:
        """Record the end: no process of the instance is left."""
        if tracked.cgroup is not None:
            tracked.cgroup.remove()
        state = tracked.directory.state()
        if state is None:
            self.forget(tracked)
            return
        if state.exit_code is None and tracked.stop_order is not None and tracked.stop_order.killed:
            state = self._record_kill(tracked, state)
        finished_at = self._ended_at(tracked)
        with contextlib.suppress(OSError):
            tracked.directory.record_finished(finished_at)
        self._finish(tracked, tracked.exit_observation(state, finished_at))

    def _ended_at(self, tracked: TrackedInstance) -> float:
        """The time of the last write to the state file, unless the workload made it unusable."""
        now = self._clock.now().timestamp()
        try:
            changed_at = sane_time(tracked.directory.changed_at())
        except OSError:
            return now
        return now if changed_at is None else changed_at

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


def _claimant(tracked: TrackedInstance) -> ProcessIdentity | None:
    """The supervisor that claimed the instance, or the one in memory where the claim is damaged."""
    state = tracked.directory.state()
    if state is None:
        return None
    return tracked.identity if state.is_damaged else state.identity
