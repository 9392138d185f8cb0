"""Starts a workload under its supervisor: a shell that claims the instance, waits and writes the exit code.

The supervisor is `/bin/sh` with the script below (dash: 0.1 MB private, 1.6 MB with shared pages). It is a
session leader, so it and the workload outlive the server and its terminal.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import stat
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType

from hypervisor.kernel.exec_limits import TooLargeForExec, check_start
from hypervisor.runtimes.process.procfs import INSTANCE_VARIABLE
from hypervisor.runtimes.protocol import LaunchFailed, LaunchSpec

SHELL = shutil.which("dash") or "/bin/sh"

# 1. A signal for the workload reaches the whole process group. A handler, unlike "ignore", is not inherited:
#    the workload starts with the default dispositions, and the supervisor survives to write the exit code.
# 2. Claim: with noclobber the redirection is open(O_CREAT|O_EXCL), so exactly one supervisor of an instance
#    continues. The claim is pid, start time and boot in one write.
# 3. Run, in the directory that is the first argument. Step 1 swallows a SIGTERM between claim and fork; the
#    stop file replaces it.
# 4. Write the exit code. The claim already owns the disk block, so a full disk does not lose the code.
# 5. Kill what the workload left in its process group.
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
# execve(2) counts a pointer for each string, and never takes more than three quarters of 8 MiB.
_POINTER_BYTES = 8
_MAX_STACK_SHARE = 6 * 1024 * 1024
_SUPERVISOR_BYTES = 8 * 1024
"""What the supervisor adds to the command and the environment, at most."""
_INHERITED = ("PATH", "HOME", "LANG", "TMPDIR")


def environment(spec: LaunchSpec, ports: Mapping[int, int]) -> dict[str, str]:
    """The environment of the workload: harmless variables of the server, then the spec's, then the runtime's.

    `ports` maps declared ports to host ports. Raises LaunchFailed for a name that a shell cannot pass on.
    """
    for key in spec.env:
        if not (key.isascii() and key.isidentifier()):
            raise LaunchFailed(f"environment variable {key!r}: a name may only have letters, digits and _")
    gpus = ",".join(str(index) for index in spec.gpu_indices)
    env = {key: os.environ[key] for key in _INHERITED if key in os.environ}
    env.setdefault("PATH", os.defpath)
    env |= spec.env
    env |= {INSTANCE_VARIABLE: spec.instance, "CUDA_VISIBLE_DEVICES": gpus, "NVIDIA_VISIBLE_DEVICES": gpus}
    if spec.ports:
        env["PORT"] = str(ports[spec.ports[0]])
    return env | {f"PORT_{port}": str(host_port) for port, host_port in ports.items()}


def check(spec: LaunchSpec, env: Mapping[str, str]) -> None:
    """Raises LaunchFailed unless the command names something that can be executed; `env` has its PATH."""
    if not spec.command:
        raise LaunchFailed("the process runtime runs a command, and this deployment has none")
    _check_size(spec.command, env)
    if spec.working_dir is not None:
        _check_directory(spec.working_dir)
    program, path = spec.command[0], env["PATH"]
    if "/" not in program:
        if not program or shutil.which(program, path=path) is None:
            raise LaunchFailed(f"no program {program!r} on the PATH ({path})")
        return
    if not program.startswith("/") and spec.working_dir is None:
        raise LaunchFailed(f"{program!r}: the working directory is new and empty; use an absolute path")
    found = Path(spec.working_dir or "/", program)
    if not stat.S_ISREG(_mode(found)):
        raise LaunchFailed(f"no such program: {found}")
    if not os.access(found, os.X_OK):
        raise LaunchFailed(f"not executable: {found}")


def _check_size(command: Sequence[str], env: Mapping[str, str]) -> None:
    pointers = _POINTER_BYTES * (len(command) + len(env))
    most = min(os.sysconf("SC_ARG_MAX"), _MAX_STACK_SHARE) - _SUPERVISOR_BYTES - pointers
    try:
        check_start(command, env, most)
    except TooLargeForExec as error:
        raise LaunchFailed(str(error)) from error


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


def spawn(spec: LaunchSpec, env: Mapping[str, str], directory: Path) -> int:
    """Start the supervisor in the instance's directory. Return its pid: a child that the caller reaps.

    Raises LaunchFailed.
    """
    argv = [SHELL, "-c", SCRIPT, spec.instance, spec.working_dir or "./work", *spec.command]
    quiet = subprocess.DEVNULL
    try:
        child = subprocess.Popen(  # noqa: S603 - running the tenant's command is what this is for
            argv, cwd=directory, env=env, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True
        )
    except ValueError as error:
        raise LaunchFailed(f"the command or its environment cannot be passed on: {error}") from error
    except OSError as error:
        retryable = error.errno != errno.E2BIG
        raise LaunchFailed(f"cannot start a process: {error.strerror}", retryable=retryable) from error
    # The holder of the pidfd reaps the child. With a return code Popen does not warn about it.
    child.returncode = 0
    return child.pid


def handle_ignored_signals() -> None:
    """Replace each ignored signal of this process (nohup ignores SIGHUP) by a handler that does nothing.

    The effect on this process is the same. But a workload would inherit "ignore", and a shell cannot undo it.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    for number in signal.valid_signals() - _RESTORED_BY_SUBPROCESS:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, _do_nothing)


def _do_nothing(_number: int, _frame: FrameType | None) -> None:
    return
