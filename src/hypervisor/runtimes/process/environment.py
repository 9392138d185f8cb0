"""The environment of a workload, and how the supervisor hands it over.

The supervisor itself has a clean environment: a shell changes or refuses some variables, and others change
what a shell or a tool does. It gets the workload's environment as a script in memory (a memfd, never on disk
and never on a command line), which it reads in the child that becomes the workload.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterable, Mapping

from hypervisor.runtimes.process import exact_environment
from hypervisor.runtimes.process.procfs import INSTANCE_VARIABLE
from hypervisor.runtimes.protocol import LaunchFailed, LaunchSpec

_INHERITED = ("PATH", "HOME", "LANG", "TMPDIR")

_OF_SHELLS = frozenset(
    (
        *(
            "_",
            "PWD",
            "OLDPWD",
            "SHLVL",
            "PPID",
            "LINENO",
            "OPTIND",
            "OPTARG",
            "OPTERR",
            "IFS",
            "CDPATH",
            "ENV",
        ),
        *("UID", "EUID", "GROUPS", "GID", "EGID", "USERNAME", "RANDOM", "SRANDOM", "SECONDS", "EPOCHSECONDS"),
        *("EPOCHREALTIME", "DIRSTACK", "FUNCNAME", "FUNCNEST", "HISTCMD", "PIPESTATUS", "SHELLOPTS"),
        *("POSIXLY_CORRECT", "GLOBIGNORE", "COMP_WORDBREAKS"),
    )
)
"""Variables that some shell sets, refuses or obeys, beside all with the prefix BASH."""

UNSET_BY_OTHERS = ("_", "SHLVL", "PWD", "OLDPWD")
"""Variables that shells other than dash export to a command even if they were unset."""


def environment(spec: LaunchSpec, ports: Mapping[int, int]) -> dict[str, str]:
    """The environment of the workload: harmless variables of the server, then the spec's, then the runtime's.

    `ports` maps declared ports to host ports. Raises LaunchFailed for a name that is not an identifier.
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


def supervisor_environment(instance: str) -> dict[str, str]:
    """The environment of the supervisor and its tools."""
    path = os.pathsep.join(filter(None, (os.environ.get("PATH"), os.defpath)))
    return {"PATH": path, INSTANCE_VARIABLE: instance}


def belongs_to_shells(env: Iterable[str]) -> bool:
    """Whether some shell or the linker of a tool sets, refuses or obeys one of these variables."""
    return any(name in _OF_SHELLS or name.startswith(("BASH", "LD_")) for name in env)


def hand_over(env: Mapping[str, str]) -> bytes:
    """A shell script that exports `env`, or, if it has a name that belongs to shells, replaces the shell.

    The supervisor runs it with the command as its arguments, and executes the command after it. The script is
    on the file descriptor `exact_environment.SOURCE`.
    """
    if belongs_to_shells(env):
        program = shlex.join([sys.executable, "-I", "-S", exact_environment.__file__])
        lines = [os.fsencode(f"{name}={value}").hex() for name, value in env.items()]
        return "\n".join([f'exec {program} "$@" 2>&1', *lines, ""]).encode()
    return os.fsencode("".join(f"export {name}={shlex.quote(value)}\n" for name, value in env.items()))
