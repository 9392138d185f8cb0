"""Starting real servers for a test session, so that none of them outlives it."""

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


_given: set[int] = set()


class Running(Protocol):
    """What `subprocess.Popen` and `forkserver.Process` have in common."""

    args: Any

    def poll(self) -> int | None: ...

    def wait(self, timeout: float) -> int: ...

    def send_signal(self, number: int, /) -> None: ...


@dataclass(frozen=True)
class Account:
    """Whom a server runs as; both None means: as whoever runs the tests."""

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
    """Start a server in a session of its own (so that Ctrl-C reaches only pytest), its output in `log`.

    On Linux the kernel sends it `death_signal` when the test process dies in any way, kill -9 included.
    """
    who = account or Account()
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            user=who.uid,
            group=who.gid,
            extra_groups=None if who.uid is None else [],
            preexec_fn=_die_with_parent(death_signal),
        )


def wait_until_ready(
    process: Running, ready: Callable[[], bool], *, log: Path, within: float = PROMPT
) -> bool:
    """True when the server answers, False when it ended first; AssertionError with its log when neither."""
    eventually_sync(
        lambda: process.poll() is not None or ready(),
        within=within,
        what=f"{process.args!r} answering (log: {tail(log)})",
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
    """A temporary folder that other users can enter; folders left by killed sessions are swept away."""
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
    """A TCP port on 127.0.0.1 that nobody listens on, and not one that the kernel gives to a connection: it
    stays free until somebody binds it, also while a server is restarted on it.
    """
    kernels_own = Path("/proc/sys/net/ipv4/ip_local_port_range")
    highest = int(kernels_own.read_text().split()[0]) if kernels_own.exists() else 32768
    while True:
        port = random.SystemRandom().randrange(highest // 2, highest)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            if port not in _given:
                _given.add(port)
                return port


def tail(log: Path, lines: int = 15) -> str:
    """The last lines of a log for a failure message."""
    with suppress(OSError):
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
    return "(no log)"


def _die_with_parent(death_signal: int) -> Callable[[], object] | None:
    """Runs between fork and exec, after the change of user, which would clear the setting."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    return lambda: libc.prctl(_PR_SET_PDEATHSIG, death_signal)


def _sweep(root: Path, prefix: str) -> None:
    for left in root.glob(f"{prefix}[0-9]*-*"):
        owner = left.name.removeprefix(prefix).split("-")[0]
        if owner.isdigit() and left.stat().st_uid == os.geteuid() and not Path(f"/proc/{owner}").exists():
            shutil.rmtree(left, ignore_errors=True)
