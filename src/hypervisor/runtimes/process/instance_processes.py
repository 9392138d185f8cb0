"""The processes of one instance in a scan of /proc: those of the workload, and those that serve it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hypervisor.runtimes.process.procfs import Process, ProcessTable
from hypervisor.runtimes.process.tracked_instance import TrackedInstance


@dataclass(frozen=True, slots=True)
class InstanceProcesses:
    """`helpers` are the supervisor, its copier and the copier's tools.

    They end by themselves after the last process of the workload, when they have stored its output.
    """

    workload: Sequence[Process]
    helpers: Sequence[Process]
    has_younger: bool
    """The control group has a process that started after the scan."""

    @property
    def is_empty(self) -> bool:
        """Whether no process of the instance is left."""
        return not (self.workload or self.helpers or self.has_younger)


def find_processes(tracked: TrackedInstance, table: ProcessTable) -> InstanceProcesses:
    """The live processes of the instance. Raises OSError."""
    if tracked.identity is None:
        return InstanceProcesses((), (), has_younger=False)
    members = tracked.cgroup.pids() if tracked.cgroup else ()
    processes = table.processes_of(tracked.name, tracked.identity, members)
    copier = tracked.copier()
    copying = table.with_descendants(process for process in processes if process.pid == copier)
    helper_pids = {tracked.identity.pid, *(process.pid for process in copying)}
    return InstanceProcesses(
        workload=[process for process in processes if process.pid not in helper_pids],
        helpers=[process for process in processes if process.pid in helper_pids],
        has_younger=not {process.pid for process in processes}.issuperset(members),
    )
