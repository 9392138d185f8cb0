"""A program that executes a command in a new session, with an environment that a shell cannot export.

The supervisor runs it by its path, without the package, in the process that becomes the workload. The file
descriptor `SOURCE` has a line for the shell, then one hexadecimal line for each variable.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Mapping

SOURCE = 5
NOT_EXECUTABLE, NOT_FOUND = 126, 127


def main(command: list[str]) -> None:
    """Replace this process. If that fails, exit with the codes of a shell."""
    with open(f"/proc/self/fd/{SOURCE}", "rb") as file:  # noqa: PTH123 - starts faster without pathlib
        variables = [bytes.fromhex(line.decode()) for line in file.readlines()[1:]]
    os.ftruncate(SOURCE, 0)
    os.close(SOURCE)
    env = dict(variable.split(b"=", 1) for variable in variables)
    os.setsid()
    for ignored in (signal.SIGPIPE, signal.SIGXFSZ):  # Python's own start ignores them
        signal.signal(ignored, signal.SIG_DFL)
    try:
        execute(command, env)
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", file=sys.stderr)
        sys.exit(NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE)


def execute(command: list[str], env: Mapping[bytes, bytes]) -> None:
    """As execvp(3): a script without `#!` runs in /bin/sh. Raises OSError."""
    program = command[0]
    failure = OSError(errno.ENOENT, os.strerror(errno.ENOENT))
    folders = os.fsdecode(env.get(b"PATH", os.defpath)).split(os.pathsep)
    for path in [program] if "/" in program else [f"{folder or '.'}/{program}" for folder in folders]:
        try:
            os.execve(path, command, env)  # noqa: S606 - that is its purpose
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            if error.errno == errno.ENOEXEC:
                os.execve("/bin/sh", ["/bin/sh", path, *command[1:]], env)  # noqa: S606
            failure = error
    raise failure


if __name__ == "__main__":
    main(sys.argv[1:])
