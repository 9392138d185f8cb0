"""One instance in the memory of this process, and its observation."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from hypervisor.kernel import exit_code
from hypervisor.kernel.exit_code import describe_exit_code
from hypervisor.runtimes.process.cgroups import Cgroup
from hypervisor.runtimes.process.instance_dir import (
    InstanceDir,
    LaunchRecord,
    StopOrder,
    utc,
)
from hypervisor.runtimes.process.instance_state import InstanceState
from hypervisor.runtimes.process.log_files import LogFiles
from hypervisor.runtimes.process.ports import HOST
from hypervisor.runtimes.process.procfs import ProcessIdentity, boot_id
from hypervisor.runtimes.protocol import Observation, ObservedState, PortBinding

KILLED, TERMINATED = 137, 143


@dataclass(slots=True, eq=False)
class TrackedInstance:
    """`identity` is the supervisor; None until a claim was read. `pidfd` watches the supervisor."""

    name: str
    directory: InstanceDir
    log: LogFiles
    launch: LaunchRecord | None = None
    identity: ProcessIdentity | None = None
    pidfd: int | None = None
    stop_order: StopOrder | None = None
    kill_timer: asyncio.TimerHandle | None = None
    final: Observation | None = None
    """The observation after the end, when no process of the instance is left."""
    supervisor_ended: asyncio.Event = field(default_factory=asyncio.Event)
    finished: asyncio.Event = field(default_factory=asyncio.Event)
    """Set with `final`, and when the instance is no longer tracked."""
    _state_read_at: float | None = None
    """The time of the state file when `has_exit_code` last found none."""

    @property
    def cgroup(self) -> Cgroup | None:
        """The control group of the workload, if it has one."""
        path = self.launch.cgroup if self.launch else None
        return None if path is None else Cgroup(path)

    def copier(self) -> int | None:
        """The pid of the process that writes the log. Raises OSError."""
        state = self.directory.state()
        return None if state is None else state.copier

    def has_exit_code(self) -> bool:
        """Whether the supervisor has recorded the end of the workload. Reads a changed file only."""
        try:
            changed_at = self.directory.changed_at()
            if changed_at == self._state_read_at:
                return False
            state = self.directory.state()
        except OSError:
            return False
        if state is None or state.exit_code is None:
            self._state_read_at = changed_at
            return False
        return True

    def observe(self) -> Observation:
        """RUNNING until no process of the instance is left, not only until its first process has ended."""
        if self.final is not None:
            return self.final
        if self.identity is None or self.launch is None:
            return Observation(ObservedState.CREATED)
        return Observation(ObservedState.RUNNING, started_at=self.launch.started_at, ports=self._bindings())

    def exit_observation(self, state: InstanceState, finished_at: float) -> Observation:
        """The observation of an instance that ended at `finished_at` (seconds since the epoch)."""
        started = self.launch.started_at if self.launch else None
        # File times come from a coarser clock, which may be some milliseconds behind.
        finished = max(utc(finished_at), started) if started else utc(finished_at)
        return Observation(
            ObservedState.EXITED,
            exit_code=state.exit_code,
            started_at=started if state.identity or state.is_damaged else None,
            finished_at=None if state.exit_code is None else finished,
            message=self._message(state),
        )

    def _bindings(self) -> tuple[PortBinding, ...]:
        ports = self.launch.ports if self.launch else {}
        return tuple(PortBinding(port, HOST, host_port) for port, host_port in ports.items())

    def _message(self, state: InstanceState) -> str | None:
        match state.exit_code:
            case None if state.is_damaged:
                return "exit code unknown: its state file is damaged"
            case None if state.identity is None:
                return "never started: the supervisor ended before it could start the program"
            case None if state.identity and state.identity.boot_id != boot_id():
                return "exit code unknown: the machine restarted while the workload ran"
            case None:
                return "exit code unknown: the supervisor was killed from outside the hypervisor"
            case code if code == TERMINATED and state.identity is None and not state.is_damaged:
                return "stopped before it started"
            case (exit_code.NOT_EXECUTABLE | exit_code.NOT_FOUND) as code:
                return f"ended with {describe_exit_code(code)}; see its log"
            case code if code == KILLED and self.stop_order is None:
                return (
                    f"ended with {describe_exit_code(code)}; a SIGKILL from outside the hypervisor is most "
                    "often the kernel's: out of memory"
                )
            case code if code == KILLED and self.stop_order is not None and self.stop_order.killed:
                return f"killed: still running {self.stop_order.grace:g} s after SIGTERM"
            case _:
                return None
