"""Starts a workload under its supervisor: a shell that claims the instance, waits and writes the exit code.

The supervisor is `/bin/sh` with the script below. With its copier it has a quarter of a megabyte of private
memory (dash). It is a session leader, so it and the workload outlive the server and its terminal.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import stat
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from hypervisor.kernel.exec_limits import TooLargeForExec, check_start
from hypervisor.runtimes.process.copier import FUNCTIONS, copy_arguments
from hypervisor.runtimes.process.environment import (
    UNSET_BY_OTHERS,
    belongs_to_shells,
    hand_over,
    supervisor_environment,
)
from hypervisor.runtimes.process.log_files import LogLimits
from hypervisor.runtimes.process.procfs import ProcessIdentity
from hypervisor.runtimes.process.spawner import Spawn, Spawner
from hypervisor.runtimes.protocol import LaunchFailed, LaunchSpec

SHELL = shutil.which("dash") or "/bin/sh"

# 1. Streams: 3 is the end of the pipe to read, 4 the end to write, 5 the environment (see `environment`).
# 2. Claim: with noclobber the redirection is open(O_CREAT|O_EXCL), so exactly one supervisor of an instance
#    continues. The claim is pid, start time and boot in one write.
# 3. Start the copier, which inherits "ignore" for the signals of a stop.
# 4. A handler, unlike "ignore", is not inherited: the workload starts with the default dispositions, and the
#    supervisor survives a signal to its group to write the exit code.
# 5. Run, in the directory that is the first argument. The steps before swallow a SIGTERM after the claim; the
#    stop file replaces it. No shell variable may be used after the script of the environment.
# 6. Write the exit code. The claim already owns the disk block, so a full disk does not lose the code.
# 7. Kill what the workload left: members of its control group, and orphans if this process is a subreaper.
#    The subshell makes this shell wait for a child, so that killed ones do not remain as zombies.
# 8. End when all output is copied. A kill of the group ends what entered neither.
SCRIPT = (
    f"""\
trap '' HUP INT QUIT ALRM USR1 USR2 PIPE TERM
set -C
exec 3<&0 4>&1 5<&2 </dev/null >/dev/null 2>&1
{FUNCTIONS}"""
    """\
claim() { echo "$$ ${20} $boot"; }
read -r boot </proc/sys/kernel/random/boot_id
read -r stat </proc/$$/stat
{ claim ${stat##*) } >state; } || exit 125
cgroup=$2
(exec <&3 3<&- 4>&- 5<&- && copy "$3" "$4" "$5") &
copier=$!
echo "copier $copier" >>state
exec 3<&-
trap : HUP INT QUIT ALRM USR1 USR2 PIPE TERM
enter() { echo 0 >|"$cgroup/cgroup.procs"; }
(
    exec >&4 4>&-
    [ ! -e stop ] || exit 143
    [ -z "$cgroup" ] || enter || { mkdir "$cgroup" && enter; }
    cd "$1" 2>&1 && shift 5 && unset PWD OLDPWD && . /proc/self/fd/5 && : >|/proc/self/fd/5 &&
        exec 5<&- 2>&1 && exec "$@"
)
echo "exit $?" >>state
exec 4>&- 5<&-
leftovers() {
    found=1
    while read -r pid; do kill -KILL "$pid" && found=0; done <"$cgroup/cgroup.procs"
    read -r children </proc/$$/task/$$/children
    for pid in $children; do [ "$pid" = "$copier" ] || { kill -KILL "$pid" && found=0; }; done
    return "$found"
}
[ -z "$cgroup" ] || echo 1 >|"$cgroup/cgroup.kill"
rounds=0
while [ "$rounds" -lt 500 ] && leftovers; do rounds=$((rounds + 1)); (:); done
while kill -0 "$copier" && ! wait "$copier"; do :; done
kill -KILL 0
"""
)

_RESTORED_BY_SUBPROCESS = {signal.SIGPIPE, signal.SIGXFSZ}
# execve(2) counts a pointer for each string, and never takes more than three quarters of 8 MiB.
_POINTER_BYTES = 8
_MAX_STACK_SHARE = 6 * 1024 * 1024
_SUPERVISOR_BYTES = 8 * 1024
"""What the supervisor adds to the command and the environment, at most."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where an instance runs: the directory of its files, its control group, and the bounds of its log."""

    directory: Path
    cgroup: Path | None
    limits: LogLimits


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


def spawn(
    spawner: Spawner, spec: LaunchSpec, env: Mapping[str, str], placement: Placement
) -> ProcessIdentity | None:
    """Start the supervisor in the instance's directory. None if it has ended already. Raises LaunchFailed."""
    if any("\0" in text for text in (*spec.command, *env.values())):
        raise LaunchFailed("the command or its environment cannot be passed on: embedded null byte")
    output, write_end = os.pipe()
    environment_file = os.memfd_create("environment")
    try:
        _write_all(environment_file, hand_over(env))
        return spawner.spawn(
            Spawn(
                _argv(spec, placement, _command(spec.command, env)),
                supervisor_environment(spec.instance),
                placement.directory,
                (output, write_end, environment_file),
            )
        )
    except OSError as error:
        retryable = error.errno != errno.E2BIG
        raise LaunchFailed(f"cannot start a process: {error.strerror}", retryable=retryable) from error
    finally:
        for descriptor in (output, write_end, environment_file):
            os.close(descriptor)


def _argv(spec: LaunchSpec, placement: Placement, command: Sequence[str]) -> list[str]:
    """The supervisor's command line. `procfs` finds the instance's name in it."""
    return [
        *(SHELL, "-c", SCRIPT, spec.instance, spec.working_dir or "./work", str(placement.cgroup or "")),
        *copy_arguments(placement.limits),
        *command,
    ]


def _command(command: Sequence[str], env: Mapping[str, str]) -> Sequence[str]:
    """The command, in a new session, and without variables that other shells than dash add.

    So a workload that signals its process group (`kill -9 0`) does not reach its supervisor.
    """
    if belongs_to_shells(env):  # `exact_environment` does both
        return command
    setsid = shutil.which("setsid")
    new_session = [] if setsid is None else [setsid]
    if SHELL.endswith("dash"):
        return [*new_session, *command]
    unset = [word for name in UNSET_BY_OTHERS for word in ("-u", name)]
    return [*new_session, shutil.which("env") or "/usr/bin/env", *unset, *command]


def _write_all(descriptor: int, content: bytes) -> None:
    while content:
        content = content[os.write(descriptor, content) :]


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
