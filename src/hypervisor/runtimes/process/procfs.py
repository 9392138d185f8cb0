"""Reads /proc: identifies processes, and finds the processes of an instance.

A pid alone identifies nothing, because the kernel reuses it. A process is identified by pid, start time and
boot; a supervisor must also have the name of its instance on its command line.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections import defaultdict
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

INSTANCE_VARIABLE = "HV_INSTANCE"
"""The environment variable that identifies a process that left its session (torchrun's workers do)."""

_DEAD = frozenset("ZX")
_STOPPED = "T"
_KERNEL_THREAD = 0x00200000
"""The flag PF_KTHREAD of include/linux/sched.h."""
_READ_CHUNK = 64 * 1024
_NO_PID = -1


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """Identifies one supervisor process.

    `start_ticks` is field 22 of /proc/<pid>/stat: clock ticks from boot to start.
    """

    pid: int
    start_ticks: int
    boot_id: str

    @classmethod
    def of(cls, pid: int) -> ProcessIdentity | None:
        """Identify the process that has this pid now. None if there is none."""
        process = read_stat(pid)
        return None if process is None else cls(pid, process.start_ticks, boot_id())

    def is_alive(self, instance: str) -> bool:
        """Whether this process lives and is the supervisor of `instance`."""
        if not self.lives():
            return False
        return instance.encode() in _read(f"/proc/{self.pid}/cmdline").split(b"\0")

    def lives(self) -> bool:
        """Whether this process lives. During an exec the command line of a process is empty for a moment."""
        if self.boot_id != boot_id():
            return False
        process = read_stat(self.pid)
        return process is not None and not process.is_dead and process.start_ticks == self.start_ticks

    def resume(self) -> None:
        """Send SIGCONT if this process is stopped, as a workload can stop it. Raises OSError."""
        process = read_stat(self.pid)
        if process is not None and process.is_stopped and process.start_ticks == self.start_ticks:
            process.send(signal.SIGCONT)

    def open_pidfd(self) -> int | None:
        """Open a pidfd. None if the process has ended. Raises OSError when no file descriptor is left."""
        try:
            pidfd = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return None
        if self.lives():
            return pidfd
        os.close(pidfd)
        return None


@dataclass(frozen=True, slots=True)
class Process:
    """The fields of /proc/<pid>/stat that are used here."""

    pid: int
    state: str
    parent: int
    group: int
    session: int
    flags: int
    start_ticks: int

    @property
    def is_dead(self) -> bool:
        """Whether the process has ended. A zombie has ended."""
        return self.state in _DEAD

    @property
    def is_stopped(self) -> bool:
        """Whether a signal stopped the process."""
        return self.state == _STOPPED

    @property
    def is_kernel_thread(self) -> bool:
        """Whether the process is a thread of the kernel."""
        return bool(self.flags & _KERNEL_THREAD)

    def send(self, signum: int) -> None:
        """Send a signal to this process unless it has ended. Raises PermissionError."""
        try:
            pidfd = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        try:
            current = read_stat(self.pid)
            if current is not None and current.start_ticks == self.start_ticks:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(pidfd, signum)
        finally:
            os.close(pidfd)


class ProcessTable:
    """All live processes at one moment."""

    def __init__(self, processes: Iterable[Process], supervised_sessions: Container[int] = ()) -> None:
        self._by_pid = {one.pid: one for one in processes if not (one.is_dead or one.is_kernel_thread)}
        self._sessions: dict[int, list[Process]] = defaultdict(list)
        self._children: dict[int, list[Process]] = defaultdict(list)
        for process in self._by_pid.values():
            self._sessions[process.session].append(process)
            self._children[process.parent].append(process)
        owned = [one for one in self._by_pid.values() if one.session in supervised_sessions]
        owned_pids = {process.pid for process in self.with_descendants(owned)}
        self._by_variable: dict[str, list[Process]] = defaultdict(list)
        for process in self._by_pid.values():
            if process.pid not in owned_pids:
                self._by_variable[_read_instance_variable(process.pid)].append(process)

    @classmethod
    def scan(cls, supervised_sessions: Container[int] = ()) -> ProcessTable:
        """Read /proc, without the environment of processes below a session in `supervised_sessions`.

        Their owner is known.
        """
        return cls(_all_processes(), supervised_sessions)

    def processes_of(
        self, instance: str, identity: ProcessIdentity, members: Iterable[int] = ()
    ) -> list[Process]:
        """Return the processes of an instance, with its supervisor while that lives.

        These are the processes of the supervisor's session, those with the instance's variable in their
        environment, `members` (the pids in the instance's control group), and the descendants of all three.
        """
        if identity.boot_id != boot_id():
            return []
        candidates = [
            *self._by_variable[instance],
            *(self._by_pid[pid] for pid in members if pid in self._by_pid),
        ]
        younger = (one for one in candidates if one.start_ticks >= identity.start_ticks)
        return self.with_descendants([*self._session(instance, identity), *younger])

    def with_descendants(self, processes: Iterable[Process]) -> list[Process]:
        """These processes and the live descendants of each."""
        found = {process.pid: process for process in processes}
        queue = list(found.values())
        while queue:
            for child in self._children[queue.pop().pid]:
                if child.pid not in found:
                    found[child.pid] = child
                    queue.append(child)
        return list(found.values())

    def _session(self, instance: str, identity: ProcessIdentity) -> list[Process]:
        leader = read_stat(identity.pid)
        if leader is not None and not leader.is_dead and not identity.is_alive(instance):
            # The kernel reuses a session's number only after its last process: this is another session.
            return []
        return [one for one in self._sessions[identity.pid] if one.start_ticks >= identity.start_ticks]


def child_groups(pid: int) -> list[int]:
    """The process groups that children of this process lead."""
    children = (read_stat(int(child)) for child in _read(f"/proc/{pid}/task/{pid}/children").split())
    return [child.pid for child in children if child and child.parent == pid and child.group == child.pid]


def is_supervised(instance: str) -> bool:
    """Whether any supervisor of the instance lives, with or without a claim."""
    return any(_is_supervisor(pid, instance) for pid in _all_pids())


def find_supervisor(instance: str) -> ProcessIdentity | None:
    """Find the supervisor of an instance whose claim is lost: it leads its session, unlike its children."""
    found = (read_stat(pid) for pid in _all_pids() if _is_supervisor(pid, instance))
    leaders = (one for one in found if one and one.session == one.pid and not one.is_dead)
    return next((ProcessIdentity(one.pid, one.start_ticks, boot_id()) for one in leaders), None)


def no_process() -> ProcessIdentity:
    """Stands for a supervisor that has ended and is not known, so all processes are younger."""
    return ProcessIdentity(_NO_PID, 0, boot_id())


def _is_supervisor(pid: int, instance: str) -> bool:
    return _read(f"/proc/{pid}/cmdline").split(b"\0")[3:4] == [instance.encode()]


def read_stat(pid: int) -> Process | None:
    """Read the stat file of the process with this pid. None if there is none."""
    line = _read(f"/proc/{pid}/stat")
    if not line:
        return None
    # The program's name is in parentheses and may itself contain spaces and parentheses.
    fields = line[line.rindex(b")") + 2 :].split()
    return Process(
        pid=pid,
        state=fields[0].decode(),
        parent=int(fields[1]),
        group=int(fields[2]),
        session=int(fields[3]),
        flags=int(fields[6]),
        start_ticks=int(fields[19]),
    )


@cache
def boot_id() -> str:
    """The kernel's random id of the current boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def reap(pidfd: int) -> None:
    """Wait for the process if it is an ended child of this process, so that it does not stay a zombie."""
    with contextlib.suppress(ChildProcessError):
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)


def reap_pid(pid: int) -> None:
    """`reap` by pid, for a child that has ended and was not reaped, so that its pid is not reused."""
    with contextlib.suppress(ChildProcessError):
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG)


def reap_when_ended(loop: asyncio.AbstractEventLoop, pidfd: int) -> None:
    """Reap a child at its end although this process no longer tracks its instance.

    Another process may drive the instance by then, and only the parent can reap a child.
    """
    try:
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return
    duplicate = os.dup(pidfd)

    def collect() -> None:
        loop.remove_reader(duplicate)
        reap(duplicate)
        os.close(duplicate)

    loop.add_reader(duplicate, collect)


def _all_pids() -> list[int]:
    with os.scandir("/proc") as entries:
        return [int(entry.name) for entry in entries if entry.name.isdigit()]


def _all_processes() -> Iterator[Process]:
    for pid in _all_pids():
        process = read_stat(pid)
        if process is not None:
            yield process


def _read_instance_variable(pid: int) -> str:
    prefix = f"{INSTANCE_VARIABLE}=".encode()
    for entry in _read(f"/proc/{pid}/environ").split(b"\0"):
        if entry.startswith(prefix):
            return entry.removeprefix(prefix).decode(errors="replace")
    return ""


def _read(path: str) -> bytes:
    """The content of a file of /proc. Empty if the process has ended or belongs to another user."""
    try:
        file = os.open(path, os.O_RDONLY)
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return b""
    try:
        content = b""
        while part := os.read(file, _READ_CHUNK):
            content += part
        return content
    except (ProcessLookupError, PermissionError):
        return b""
    finally:
        os.close(file)
