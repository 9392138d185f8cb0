"""Starting a workload under its supervisor: a shell that claims the instance, waits and writes the exit code.

The supervisor is `/bin/sh` with the script below (dash: 0.1 MB of its own, 1.6 MB with shared pages). It is a
session leader, so it and the workload outlive the server and its terminal.
"""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path
from types import FrameType

from hypervisor.runtimes.process.proc import MARK
from hypervisor.runtimes.protocol import LaunchFailed, LaunchSpec

SHELL = shutil.which("dash") or "/bin/sh"

# 1. Signals meant for the workload reach the whole process group. A handler, unlike "ignore", is not
#    inherited: the workload starts with the default dispositions, the supervisor lives on to write its end.
# 2. The claim: with noclobber the redirection is open(O_CREAT|O_EXCL), so of any number of supervisors of one
#    instance exactly one goes on. It holds pid, start time and boot in one write.
# 3. Run, in the directory that is the first argument. A stop between claim and fork was swallowed by step 1;
#    the stop file tells of it.
# 4. The exit code goes into the block that the claim already owns, so that a full disk does not lose it.
# 5. What the workload left behind in its process group ends with it.
SCRIPT = """\
trap : HUP INT QUIT ALRM USR1 USR2 PIPE TERM
set -C
claim() { echo "$$ ${20} $boot"; }
read -r boot </proc/sys/kernel/random/boot_id
read -r stat </proc/$$/stat
{ claim ${stat##*) } >state; } 2>/dev/null || exit 125
( [ ! -e stop ] || exit 143; cd "$1" && shift && exec "$@" ) >>log 2>&1
echo "exit $?" >>state
kill -KILL 0
"""

_RESTORED_BY_SUBPROCESS = {signal.SIGPIPE, signal.SIGXFSZ}
_PASSED_ON = ("PATH", "HOME", "LANG", "TMPDIR")


def environment(spec: LaunchSpec, ports: Mapping[int, int]) -> dict[str, str]:
    """What the workload sees: a few harmless variables of the server, the spec's, and ours (which win).

    `ports` maps declared ports to host ports. Raises LaunchFailed for a name that no shell can pass on.
    """
    for key in spec.env:
        if not (key.isascii() and key.isidentifier()):
            raise LaunchFailed(f"environment variable {key!r}: a name is made of letters, digits and _")
    gpus = ",".join(str(index) for index in spec.gpu_indices)
    env = {key: os.environ[key] for key in _PASSED_ON if key in os.environ}
    env.setdefault("PATH", os.defpath)
    env |= spec.env
    env |= {MARK: spec.instance, "CUDA_VISIBLE_DEVICES": gpus, "NVIDIA_VISIBLE_DEVICES": gpus}
    if spec.ports:
        env["PORT"] = str(ports[spec.ports[0]])
    return env | {f"PORT_{port}": str(host_port) for port, host_port in ports.items()}


def check(spec: LaunchSpec, env: Mapping[str, str]) -> None:
    """Raises LaunchFailed unless the command names something that can be executed; `env` has its PATH."""
    if not spec.command:
        raise LaunchFailed("the process runtime runs a command, and this deployment gives none")
    if spec.working_dir is not None:
        _check_directory(spec.working_dir)
    program, path = spec.command[0], env["PATH"]
    if "/" not in program:
        if not program or shutil.which(program, path=path) is None:
            raise LaunchFailed(f"no program {program!r} on the PATH ({path})")
        return
    if not program.startswith("/") and spec.working_dir is None:
        raise LaunchFailed(f"{program!r}: the working directory is new and empty, give an absolute path")
    found = Path(spec.working_dir or "/", program)
    if not stat.S_ISREG(_mode(found)):
        raise LaunchFailed(f"no such program: {found}")
    if not os.access(found, os.X_OK):
        raise LaunchFailed(f"not executable: {found}")


def _check_directory(path: str) -> None:
    if not stat.S_ISDIR(_mode(Path(path))):
        raise LaunchFailed(f"working_dir: there is no directory {path} that the server's user can reach")
    if not os.access(path, os.X_OK):
        raise LaunchFailed(f"working_dir: the server's user may not enter {path}")


def _mode(path: Path) -> int:
    """The mode of the file, 0 where there is none; a name that is too long is no fault of the disk."""
    try:
        return path.stat().st_mode
    except (OSError, ValueError):
        return 0


def spawn(spec: LaunchSpec, env: Mapping[str, str], folder: Path) -> int:
    """Start the supervisor in the instance's folder and return its pid (a child of ours, to be reaped).

    Raises LaunchFailed.
    """
    argv = [SHELL, "-c", SCRIPT, spec.instance, spec.working_dir or "./work", *spec.command]
    quiet = subprocess.DEVNULL
    try:
        child = subprocess.Popen(  # noqa: S603 - running the tenant's command is what this is for
            argv, cwd=folder, env=env, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True
        )
    except ValueError as error:
        raise LaunchFailed(f"the command or its environment cannot be passed on: {error}") from error
    except OSError as error:
        raise LaunchFailed(f"cannot start a process: {error.strerror}", retryable=True) from error
    # Whoever holds the pidfd reaps it; told a return code, Popen does not warn of a child left alone.
    child.returncode = 0
    return child.pid


def handle_ignored_signals() -> None:
    """Where this process ignores a signal (nohup does that to SIGHUP), handle it by doing nothing instead.

    For us that is the same. But "ignore" would be inherited by the workload, and a shell cannot undo it.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    for number in signal.valid_signals() - _RESTORED_BY_SUBPROCESS:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, _do_nothing)


def _do_nothing(_number: int, _frame: FrameType | None) -> None:
    return
