"""Starts real servers for a test session, so that none of them outlives it."""

from __future__ import annotations

import ctypes
import os
import pwd
import random
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tests.support.wait import PROMPT, eventually_sync

_PR_SET_PDEATHSIG = 1


_used_ports: set[int] = set()


class Running(Protocol):
    """The common part of `subprocess.Popen` and `forkserver.Process`."""

    args: Any

    def poll(self) -> int | None: ...

    def wait(self, timeout: float) -> int: ...

    def send_signal(self, number: int, /) -> None: ...


@dataclass(frozen=True)
class Account:
    """The user and group of a server; None means those of the test process."""

    uid: int | None = None
    gid: int | None = None


def unprivileged_account() -> Account:
    """`nobody` where the tests run as root (PostgreSQL refuses root), else the same user."""
    if os.geteuid() != 0:
        return Account()
    entry = pwd.getpwnam("nobody")
    return Account(entry.pw_uid, entry.pw_gid)


def spawn(
    command: list[str], *, log: Path, account: Account | None = None, death_signal: int = signal.SIGTERM
) -> subprocess.Popen[bytes]:
    """Start a server in a new session (so that Ctrl-C reaches only pytest), with its output in `log`.

    On Linux the kernel sends `death_signal` when the test process dies in any way, kill -9 included.
    """
    user = account or Account()
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            user=user.uid,
            group=user.gid,
            extra_groups=None if user.uid is None else [],
            preexec_fn=_die_with_parent(death_signal),
        )


def wait_until_ready(
    process: Running, ready: Callable[[], bool], *, log: Path, within: float = PROMPT
) -> bool:
    """True once the server responds, False if it ended first; AssertionError with its log otherwise."""
    eventually_sync(
        lambda: process.poll() is not None or ready(),
        within=within,
        what=f"{process.args!r} responding (log: {tail(log)})",
    )
    return process.poll() is None


def stop(process: Running, *signals: int, within: float = 10.0) -> None:
    """Send the signals one after another, `within` seconds apart, then SIGKILL, until it has ended."""
    for number in (*signals, signal.SIGKILL):
        if process.poll() is not None:
            return
        process.send_signal(number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(within)


@contextmanager
def scratch_directory(prefix: str) -> Iterator[Path]:
    """A temporary folder that other users can enter; removes the folders of killed sessions."""
    root = Path(tempfile.gettempdir())
    if os.geteuid() == 0 and not world_reachable(root):
        root = Path("/tmp")
    _sweep(root, prefix)
    path = Path(tempfile.mkdtemp(prefix=f"{prefix}{os.getpid()}-", dir=root))
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def world_reachable(path: Path) -> bool:
    """Whether any user may read a file or enter a folder at `path`, parents included."""
    real = path.resolve()
    return all(parent.stat().st_mode & stat.S_IXOTH for parent in (real, *real.parents))


def free_port() -> int:
    """A free TCP port on 127.0.0.1, outside of the kernel's range for outgoing connections: it stays free
    until a server binds it, also while that server restarts.
    """
    kernel_range = Path("/proc/sys/net/ipv4/ip_local_port_range")
    highest = int(kernel_range.read_text().split()[0]) if kernel_range.exists() else 32768
    while True:
        port = random.SystemRandom().randrange(highest // 2, highest)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            if port not in _used_ports:
                _used_ports.add(port)
                return port


def tail(log: Path, lines: int = 15) -> str:
    """The last lines of a log for a failure message."""
    with suppress(OSError):
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
    return "(no log)"


def _die_with_parent(death_signal: int) -> Callable[[], object] | None:
    """A function to run between fork and exec, after the change of user, which would clear the setting."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    return lambda: libc.prctl(_PR_SET_PDEATHSIG, death_signal)


def _sweep(root: Path, prefix: str) -> None:
    for folder in root.glob(f"{prefix}[0-9]*-*"):
        owner = folder.name.removeprefix(prefix).split("-")[0]
        if owner.isdigit() and folder.stat().st_uid == os.geteuid() and not Path(f"/proc/{owner}").exists():
            shutil.rmtree(folder, ignore_errors=True)
