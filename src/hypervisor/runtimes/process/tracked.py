"""One instance as this process knows it, and what is said of it once it has ended."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from hypervisor.runtimes.process.instance_dir import InstanceDir, Launch, State, StopOrder, utc
from hypervisor.runtimes.process.logs import RotatingLog
from hypervisor.runtimes.process.ports import HOST
from hypervisor.runtimes.process.proc import Identity, boot_id
from hypervisor.runtimes.protocol import Observation, ObservedState, PortBinding

NOT_EXECUTABLE, NOT_FOUND, KILLED, TERMINATED = 126, 127, 137, 143


@dataclass(slots=True, eq=False)
class Tracked:
    """`identity` is None until somebody is known to have claimed the instance."""

    name: str
    folder: InstanceDir
    log: RotatingLog
    launch: Launch | None = None
    identity: Identity | None = None
    pidfd: int | None = None
    stop: StopOrder | None = None
    timer: asyncio.TimerHandle | None = None
    final: Observation | None = None
    supervisor_gone: asyncio.Event = field(default_factory=asyncio.Event)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    def look(self) -> Observation:
        """RUNNING until nothing of the instance is left, not just until its first process has ended."""
        if self.final is not None:
            return self.final
        if self.identity is None or self.launch is None:
            return Observation(ObservedState.CREATED)
        return Observation(ObservedState.RUNNING, started_at=self.launch.started_at, ports=self._bindings())

    def ended(self, state: State, finished_at: float) -> Observation:
        """`finished_at` is in seconds since the epoch."""
        started = self.launch.started_at if self.launch else None
        # File times come from a coarser clock, which may be some milliseconds behind.
        finished = max(utc(finished_at), started) if started else utc(finished_at)
        return Observation(
            ObservedState.EXITED,
            exit_code=state.exit_code,
            started_at=started if state.identity else None,
            finished_at=None if state.exit_code is None else finished,
            message=self._message(state),
        )

    def _bindings(self) -> tuple[PortBinding, ...]:
        ports = self.launch.ports if self.launch else {}
        return tuple(PortBinding(port, HOST, host_port) for port, host_port in ports.items())

    def _message(self, state: State) -> str | None:
        match state.exit_code:
            case None if state.identity is None:
                return "it never began: its supervisor ended before it could start the program"
            case None if state.identity and state.identity.boot_id != boot_id():
                return "the machine was restarted while it ran; its exit code is not known"
            case None:
                return "its supervisor was killed by somebody else; its exit code is not known"
            case code if code == TERMINATED and state.identity is None:
                return "stopped before it began"
            case code if code == NOT_EXECUTABLE:
                return "exit code 126: something it runs is not executable; its log says what"
            case code if code == NOT_FOUND:
                return "exit code 127: a program that it runs was not found; its log says which"
            case code if code == KILLED and self.stop is None:
                return "killed with SIGKILL by somebody else, most often the kernel for lack of memory"
            case code if code == KILLED and self.stop is not None and self.stop.killed:
                return f"killed: it had not ended {self.stop.grace:g} s after SIGTERM"
            case _:
                return None
