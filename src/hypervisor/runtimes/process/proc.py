"""Processes as the kernel shows them: who is who, and who belongs to which instance.

A pid alone is never trusted, the kernel hands it out again. A process is told by pid, start time and boot; a
supervisor must also carry its instance's name on its command line.
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

MARK = "HV_INSTANCE"
"""The variable by which a process is known that left its session (torchrun's workers do)."""

_DEAD = frozenset("ZX")
_KERNEL_THREAD = 0x00200000
"""The flag PF_KTHREAD of include/linux/sched.h."""
_AT_ONCE = 64 * 1024


@dataclass(frozen=True, slots=True)
class Identity:
    """One supervisor process. `start_ticks` is field 22 of /proc/<pid>/stat, clock ticks since boot."""

    pid: int
    start_ticks: int
    boot_id: str

    @classmethod
    def of(cls, pid: int) -> Identity | None:
        """The process that has this pid now, None if there is none."""
        seen = read_stat(pid)
        return None if seen is None else cls(pid, seen.start_ticks, boot_id())

    def is_alive(self, instance: str) -> bool:
        """Whether this very process still lives and is the supervisor of `instance`."""
        if self.boot_id != boot_id():
            return False
        seen = read_stat(self.pid)
        if seen is None or seen.is_dead or seen.start_ticks != self.start_ticks:
            return False
        return instance.encode() in _read(f"/proc/{self.pid}/cmdline").split(b"\0")

    def open_pidfd(self, instance: str) -> int | None:
        """A pidfd on this very process, None if it has ended. Raises OSError when no descriptor is left."""
        try:
            pidfd = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return None
        if self.is_alive(instance):
            return pidfd
        os.close(pidfd)
        return None


@dataclass(frozen=True, slots=True)
class Process:
    """A line of /proc/<pid>/stat."""

    pid: int
    state: str
    parent: int
    group: int
    session: int
    flags: int
    start_ticks: int

    @property
    def is_dead(self) -> bool:
        return self.state in _DEAD

    @property
    def is_of_the_kernel(self) -> bool:
        return bool(self.flags & _KERNEL_THREAD)

    def send(self, signum: int) -> None:
        """Send a signal to this very process, if it has not ended. Raises PermissionError."""
        try:
            pidfd = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        try:
            now = read_stat(self.pid)
            if now is not None and now.start_ticks == self.start_ticks:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(pidfd, signum)
        finally:
            os.close(pidfd)


class ProcessTable:
    """All live processes at one moment."""

    def __init__(self, processes: Iterable[Process], settled: Container[int] = ()) -> None:
        self._by_pid = {one.pid: one for one in processes if not (one.is_dead or one.is_of_the_kernel)}
        self._sessions: dict[int, list[Process]] = defaultdict(list)
        self._children: dict[int, list[Process]] = defaultdict(list)
        for process in self._by_pid.values():
            self._sessions[process.session].append(process)
            self._children[process.parent].append(process)
        self._marked: dict[str, list[Process]] = defaultdict(list)
        for process in self._by_pid.values():
            if process.session not in settled:
                self._marked[_read_mark(process.pid)].append(process)

    @classmethod
    def scan(cls, settled: Container[int] = ()) -> ProcessTable:
        """Read /proc. `settled` are sessions whose owner is known: no mark need be looked for in them."""
        return cls(_all_processes(), settled)

    def members(self, instance: str, identity: Identity) -> list[Process]:
        """Everything that belongs to the instance: its session, what descends from it, and what carries its
        mark in the environment. The supervisor is one of them while it lives.
        """
        if identity.boot_id != boot_id():
            return []
        marked = (one for one in self._marked[instance] if one.start_ticks >= identity.start_ticks)
        found = {process.pid: process for process in (*self._session(instance, identity), *marked)}
        queue = list(found.values())
        while queue:
            for child in self._children[queue.pop().pid]:
                if child.pid not in found:
                    found[child.pid] = child
                    queue.append(child)
        return list(found.values())

    def _session(self, instance: str, identity: Identity) -> list[Process]:
        leader = read_stat(identity.pid)
        if leader is not None and not leader.is_dead and not identity.is_alive(instance):
            # The kernel frees a session's number only with its last process: this is a stranger's session.
            return []
        return [one for one in self._sessions[identity.pid] if one.start_ticks >= identity.start_ticks]


def is_supervised(instance: str) -> bool:
    """Whether any supervisor of the instance lives, be it one that has not claimed it or never will."""
    name = instance.encode()
    return any(_read(f"/proc/{pid}/cmdline").split(b"\0")[3:4] == [name] for pid in _all_pids())


def read_stat(pid: int) -> Process | None:
    """How the process with this pid looks now, None if there is none."""
    line = _read(f"/proc/{pid}/stat")
    if not line:
        return None
    # The program's name in parentheses may itself hold spaces and parentheses.
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
    """The kernel's name for this boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def reap(pidfd: int) -> None:
    """Collect the process if it is a child of ours that has ended, so that it does not stay a zombie."""
    with contextlib.suppress(ChildProcessError):
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)


def reap_pid(pid: int) -> None:
    """The same by pid, for a process that is known to have ended and whose pid cannot be another's yet."""
    with contextlib.suppress(ChildProcessError):
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG)


def reap_when_ended(loop: asyncio.AbstractEventLoop, pidfd: int) -> None:
    """Collect a child of ours at its end although nobody here looks after it any more: another process may
    drive what it supervises by then, and only its parent can take a zombie away.
    """
    try:
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return
    kept = os.dup(pidfd)

    def collect() -> None:
        loop.remove_reader(kept)
        reap(kept)
        os.close(kept)

    loop.add_reader(kept, collect)


def _all_pids() -> list[int]:
    with os.scandir("/proc") as entries:
        return [int(entry.name) for entry in entries if entry.name.isdigit()]


def _all_processes() -> Iterator[Process]:
    for pid in _all_pids():
        process = read_stat(pid)
        if process is not None:
            yield process


def _read_mark(pid: int) -> str:
    prefix = f"{MARK}=".encode()
    for entry in _read(f"/proc/{pid}/environ").split(b"\0"):
        if entry.startswith(prefix):
            return entry.removeprefix(prefix).decode(errors="replace")
    return ""


def _read(path: str) -> bytes:
    """The content of a file of /proc; empty when the process has ended or is not ours to look into."""
    try:
        file = os.open(path, os.O_RDONLY)
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return b""
    try:
        content = b""
        while part := os.read(file, _AT_ONCE):
            content += part
        return content
    except (ProcessLookupError, PermissionError):
        return b""
    finally:
        os.close(file)
