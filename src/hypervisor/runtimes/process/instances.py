"""The instances that this process knows: adopting them, watching them, and saying when they are over."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Collection
from dataclasses import replace

from hypervisor.kernel.clock import Clock
from hypervisor.kernel.names import InstanceName
from hypervisor.runtimes.hints import ChangeHints
from hypervisor.runtimes.process.instance_dir import InstanceDir, Launch, State, StateRoot
from hypervisor.runtimes.process.logs import LogLimits, RotatingLog
from hypervisor.runtimes.process.proc import Identity, reap, reap_pid, reap_when_ended
from hypervisor.runtimes.process.reaper import Reaper
from hypervisor.runtimes.process.scanner import Scanner
from hypervisor.runtimes.process.stopping import Stopper
from hypervisor.runtimes.process.tracked import KILLED, TERMINATED, Tracked
from hypervisor.runtimes.protocol import Observation


class Instances:
    """Memory in front of the state folder. Synchronous, so that no two tasks of the loop ever interleave."""

    def __init__(self, state: StateRoot, hints: ChangeHints, clock: Clock, limits: LogLimits) -> None:
        self._state = state
        self._hints = hints
        self._limits = limits
        self._known: dict[str, Tracked] = {}
        scanner = Scanner(self._live_sessions)
        self._stopper = Stopper(clock, scanner)
        self._sweeper = Reaper(self._conclude, scanner, clock)

    def adopt_all(self) -> None:
        for name in self._state.names():
            self.find(name)

    def find(self, name: str) -> Tracked | None:
        """What is known of the instance, from memory or else from disk; None if there is no such instance."""
        tracked = self._known.get(name) or self._adopt(name)
        if tracked is None:
            return None
        if tracked.final is not None and not tracked.folder.path.is_dir():
            self.forget(tracked)
            return None
        if tracked.final is None and tracked.identity is None:
            self._recognise(tracked)
        return tracked

    def live(self) -> Collection[Tracked]:
        return [one for one in self._known.values() if one.final is None]

    def track(self, name: str, folder: InstanceDir, launch: Launch, pid: int) -> Tracked:
        """Take in a supervisor that was just spawned. The child is not reaped before its pidfd is open, so
        the pid is still its own.
        """
        tracked = Tracked(name, folder, RotatingLog(folder.path, self._limits), launch, Identity.of(pid))
        self._known[name] = tracked
        with contextlib.suppress(OSError):  # no descriptor left: see `look_after`
            self._watch_pidfd(tracked, os.pidfd_open(pid))
        self._hints.publish(name)
        return tracked

    def stop(self, tracked: Tracked, grace: float) -> None:
        """Write the order, then act on it: a supervisor looks for it after its fork, see shim.SCRIPT."""
        if tracked.supervisor_gone.is_set() or not self._stopper.record(tracked, grace):
            return
        if _claims_void(tracked.folder):
            tracked.folder.record_exit(TERMINATED)
        state = tracked.folder.state()
        if state is not None and state.identity is not None:
            self._stopper.carry_out(tracked, state.identity)
        elif tracked.identity is None:
            self._recognise(tracked)

    def forget(self, tracked: Tracked) -> None:
        self._known.pop(tracked.name, None)
        self._release(tracked)
        self._hints.publish(tracked.name)

    def look_after(self, tracked: Tracked) -> None:
        """Notice what no pidfd tells: a claim on an adopted instance, the end of a supervisor without one."""
        identity = tracked.identity
        if identity is None:
            self._recognise(tracked)
            if tracked.identity is not None:
                self._hints.publish(tracked.name)
            return
        if tracked.pidfd is not None or tracked.supervisor_gone.is_set():
            return
        if not self._watch(tracked, identity):
            reap_pid(identity.pid)
            self._supervisor_ended(tracked)

    async def close(self) -> None:
        await self._stopper.close()
        await self._sweeper.close()
        for tracked in self._known.values():
            if tracked.pidfd is not None:
                reap_when_ended(asyncio.get_running_loop(), tracked.pidfd)
            self._release(tracked)
        self._known.clear()

    def _adopt(self, name: str) -> Tracked | None:
        if InstanceName.parse(name) is None:
            return None
        folder = self._state.folder(name)
        if not folder.path.is_dir():
            return None
        log = RotatingLog(folder.path, self._limits)
        tracked = Tracked(name, folder, log, folder.launch(), stop=folder.stop_order())
        self._known[name] = tracked
        return tracked

    def _recognise(self, tracked: Tracked) -> None:
        """Take in who has claimed the instance, if anybody has; `look_after` asks again while nobody has."""
        state = tracked.folder.state()
        if state is None:
            return
        tracked.identity = state.identity
        if state.swept_at is not None:
            self._finish(tracked, tracked.ended(state, state.swept_at))
        elif state.identity is None:
            self._conclude(tracked)
        elif state.exit_code is not None or not self._watch(tracked, state.identity):
            tracked.supervisor_gone.set()
            self._sweeper.add(tracked)
        else:
            self._stopper.carry_out(tracked, state.identity)

    def _watch(self, tracked: Tracked, identity: Identity) -> bool:
        """Be told of the supervisor's end; False if it has ended already."""
        try:
            pidfd = identity.open_pidfd(tracked.name)
        except OSError:
            return identity.is_alive(tracked.name)
        if pidfd is not None:
            self._watch_pidfd(tracked, pidfd)
        return pidfd is not None

    def _watch_pidfd(self, tracked: Tracked, pidfd: int) -> None:
        tracked.pidfd = pidfd
        asyncio.get_running_loop().add_reader(pidfd, self._supervisor_ended, tracked)

    def _supervisor_ended(self, tracked: Tracked) -> None:
        if tracked.pidfd is not None:
            reap(tracked.pidfd)
        self._unwatch(tracked)
        # If it ended before it could claim (somebody killed it), nobody else may from now on.
        _claims_void(tracked.folder)
        state = tracked.folder.state()
        if state is None:
            self.forget(tracked)
        elif state.identity != tracked.identity:
            # Another supervisor, or a stop, was first and this one stepped back.
            self._recognise(tracked)
        else:
            tracked.supervisor_gone.set()
            self._sweeper.add(tracked)

    def _conclude(self, tracked: Tracked) -> None:
        """Nothing of the instance is left: say so for good."""
        state = tracked.folder.state()
        if state is None:
            self.forget(tracked)
            return
        if state.exit_code is None and tracked.stop is not None and tracked.stop.killed:
            state = self._record_kill(tracked, state)
        ended_at = tracked.folder.changed_at()
        with contextlib.suppress(OSError):
            tracked.folder.record_swept(ended_at)
        self._finish(tracked, tracked.ended(state, ended_at))

    def _record_kill(self, tracked: Tracked, state: State) -> State:
        with contextlib.suppress(OSError):
            tracked.folder.record_exit(KILLED)
        return replace(state, exit_code=KILLED)

    def _finish(self, tracked: Tracked, final: Observation) -> None:
        tracked.final = final
        self._release(tracked)
        self._hints.publish(tracked.name)

    def _release(self, tracked: Tracked) -> None:
        self._unwatch(tracked)
        if tracked.timer is not None:
            tracked.timer.cancel()
            tracked.timer = None
        tracked.over.set()

    def _unwatch(self, tracked: Tracked) -> None:
        if tracked.pidfd is not None:
            asyncio.get_running_loop().remove_reader(tracked.pidfd)
            os.close(tracked.pidfd)
            tracked.pidfd = None

    def _live_sessions(self) -> frozenset[int]:
        live = (one.identity for one in self._known.values() if not one.supervisor_gone.is_set())
        return frozenset(identity.pid for identity in live if identity is not None)


def _claims_void(folder: InstanceDir) -> bool:
    try:
        return folder.claim_void()
    except OSError:
        return False
